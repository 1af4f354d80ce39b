"""The built-in agents, registered by name. Importing this needs no torch."""

if __name__ != "rltrain.agents":
    raise ImportError(f"import this package as 'rltrain.agents', not as '{__name__}'")

from rltrain.registry import register_agent


def register() -> None:
    """Registers every built-in agent; called through the entry-point group ``rltrain.agents``."""
    register_agent(
        "ppo",
        "rltrain.agents.ppo.agent:PPO",
        "rltrain.agents.ppo.config:PPOConfig",
        description="Proximal Policy Optimization: on-policy, clipped; discrete and continuous actions.",
    )
