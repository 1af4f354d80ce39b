"""Decisions of companies: stock, prices, servers, energy, money, machines."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/Inventory-v0",
        "rltrain.envs.business.inventory:Inventory",
        group="business",
        description="Keep a warehouse and its shops in stock at little cost.",
        max_episode_steps=100,
    )
    register_env(
        "rltrain/DynamicPricing-v0",
        "rltrain.envs.business.dynamic_pricing:DynamicPricing",
        group="business",
        description="Set prices day by day to sell a stock for the most money while learning what customers pay.",
    )
    register_env(
        "rltrain/BatteryArbitrage-v0",
        "rltrain.envs.business.battery_arbitrage:BatteryArbitrage",
        group="business",
        description="Charge a battery while electricity is cheap, and sell while it is expensive.",
        max_episode_steps=168,
    )
    register_env(
        "rltrain/Portfolio-v0",
        "rltrain.envs.business.portfolio:Portfolio",
        group="business",
        description="Spread wealth over assets whose returns are slightly predictable, while trading costs money.",
        max_episode_steps=250,
    )
    register_env(
        "rltrain/JobShop-v0",
        "rltrain.envs.business.job_shop:JobShop",
        group="business",
        description="Schedule jobs on machines so that all are done soon.",
        max_episode_steps=36,
    )
    register_env(
        "rltrain/Autoscaling-v0",
        "rltrain.envs.business.autoscaling:Autoscaling",
        group="business",
        description="Run just enough servers for requests that come and go.",
        max_episode_steps=288,
    )
