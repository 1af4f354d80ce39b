"""The five games of MinAtar: Atari's ideas on ten by ten cells.

Their ids end with -v1, as MinAtar's do with minimal action sets; ``minimal_actions=False`` gives MinAtar's -v0.
"""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family.

    Only Freeway has a time limit in the authors' package, 2,501 frames. The other games last as long as they are played
    well, so they are truncated after 5,000 frames. That is several times what random or learning agents reach, and
    short enough to evaluate an agent that never fails.
    """
    register_env(
        "rltrain/MinAtar-Asterix-v1",
        "rltrain.envs.minatar.asterix:Asterix",
        group="minatar",
        description="Gather treasure and dodge enemies that cross the board ever faster.",
        max_episode_steps=5_000,
    )
    register_env(
        "rltrain/MinAtar-Breakout-v1",
        "rltrain.envs.minatar.breakout:Breakout",
        group="minatar",
        description="Bounce a ball off a paddle to clear a wall of bricks.",
        max_episode_steps=5_000,
    )
    register_env(
        "rltrain/MinAtar-Freeway-v1",
        "rltrain.envs.minatar.freeway:Freeway",
        group="minatar",
        description="Cross eight lanes of traffic again and again.",
        max_episode_steps=2_501,
    )
    register_env(
        "rltrain/MinAtar-Seaquest-v1",
        "rltrain.envs.minatar.seaquest:Seaquest",
        group="minatar",
        description="Pick up divers, shoot what swims, and come up for air in time.",
        max_episode_steps=5_000,
    )
    register_env(
        "rltrain/MinAtar-SpaceInvaders-v1",
        "rltrain.envs.minatar.space_invaders:SpaceInvaders",
        group="minatar",
        description="Shoot down aliens that march to and fro, and ever closer.",
        max_episode_steps=5_000,
    )
