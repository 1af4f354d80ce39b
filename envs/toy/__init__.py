"""Gymnasium's toy texts: small games whose rules are tables."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/FrozenLake-v1",
        "rltrain.envs.toy.frozen_lake:FrozenLake",
        group="toy",
        description="Cross a frozen lake of 4 x 4 cells without falling into a hole; the ice is slippery.",
        max_episode_steps=100,
        reward_threshold=0.7,
        kwargs={"map_name": "4x4"},
    )
    register_env(
        "rltrain/FrozenLake8x8-v1",
        "rltrain.envs.toy.frozen_lake:FrozenLake",
        group="toy",
        description="Cross a frozen lake of 8 x 8 cells without falling into a hole; the ice is slippery.",
        max_episode_steps=200,
        reward_threshold=0.85,
        kwargs={"map_name": "8x8"},
    )
    register_env(
        "rltrain/CliffWalking-v1",
        "rltrain.envs.toy.cliff_walking:CliffWalking",
        group="toy",
        description="Walk along a cliff without falling off it.",
        max_episode_steps=500,
    )
    register_env(
        "rltrain/CliffWalkingSlippery-v1",
        "rltrain.envs.toy.cliff_walking:CliffWalking",
        group="toy",
        description="Walk along a cliff without falling off it; the ground is slippery.",
        max_episode_steps=500,
        kwargs={"is_slippery": True},
    )
    register_env(
        "rltrain/Taxi-v4",
        "rltrain.envs.toy.taxi:Taxi",
        group="toy",
        description="Pick a passenger up and drop her off where she wants to go.",
        max_episode_steps=200,
        reward_threshold=8.0,
    )
    register_env(
        "rltrain/TaxiMasked-v4",
        "rltrain.envs.toy.taxi:MaskedTaxi",
        group="toy",
        description="Pick a passenger up and drop her off, knowing which actions change something.",
        max_episode_steps=200,
        reward_threshold=8.0,
    )
    register_env(
        "rltrain/Blackjack-v1",
        "rltrain.envs.toy.blackjack:Blackjack",
        group="toy",
        description="Draw cards to come closer to 21 than the dealer, but not beyond.",
        kwargs={"natural": False, "sab": True},
    )
    register_env(
        "rltrain/FrozenLakeRandom-v0",
        "rltrain.envs.toy.frozen_lake_random:FrozenLakeRandom",
        group="toy",
        description="Cross a frozen lake whose holes are elsewhere in every episode; the ice is slippery.",
        max_episode_steps=200,
    )
