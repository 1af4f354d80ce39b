"""Tasks with a goal that is part of the observation, for hindsight experience replay."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/BitFlip-v0",
        "rltrain.envs.goal.bit_flip:BitFlip",
        group="goal",
        description="Flip bits until they are the ones asked for; nothing else is ever rewarded.",
        max_episode_steps=20,
        reward_threshold=-11.0,
    )
