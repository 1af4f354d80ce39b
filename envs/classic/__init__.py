"""Classic control, with Gymnasium's dynamics."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/CartPole-v1",
        "rltrain.envs.classic.cartpole:CartPole",
        group="classic",
        description="Balance a pole on a cart by pushing it left or right.",
        max_episode_steps=500,
        reward_threshold=475.0,
    )
    register_env(
        "rltrain/Pendulum-v1",
        "rltrain.envs.classic.pendulum:Pendulum",
        group="classic",
        description="Swing a pendulum up and hold it there with bounded torque.",
        max_episode_steps=200,
    )
