"""The built-in environments, registered by name. Importing this needs no torch."""

if __name__ != "rltrain.envs":
    raise ImportError(f"import this package as 'rltrain.envs', not as '{__name__}'")

from rltrain.registry import register_env


def register() -> None:
    """Registers every built-in environment; called through the entry-point group ``rltrain.envs``."""
    register_env(
        "rltrain/CartPole-v1",
        "rltrain.envs.classic.cartpole:CartPole",
        description="Balance a pole on a cart by pushing it left or right.",
        max_episode_steps=500,
        reward_threshold=475.0,
    )
    register_env(
        "rltrain/Pendulum-v1",
        "rltrain.envs.classic.pendulum:Pendulum",
        description="Swing a pendulum up and hold it there with bounded torque.",
        max_episode_steps=200,
    )
