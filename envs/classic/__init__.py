"""Classic control, with Gymnasium's dynamics."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/Acrobot-v1",
        "rltrain.envs.classic.acrobot:Acrobot",
        group="classic",
        description="Swing the tip of a two-link arm up, with a motor at the elbow alone.",
        max_episode_steps=500,
        reward_threshold=-100.0,
    )
    register_env(
        "rltrain/CartPole-v1",
        "rltrain.envs.classic.cartpole:CartPole",
        group="classic",
        description="Balance a pole on a cart by pushing it left or right.",
        max_episode_steps=500,
        reward_threshold=475.0,
    )
    register_env(
        "rltrain/MountainCar-v0",
        "rltrain.envs.classic.mountain_car:MountainCar",
        group="classic",
        description="Rock a car out of a valley with a motor too weak to climb it at once.",
        max_episode_steps=200,
        reward_threshold=-110.0,
    )
    register_env(
        "rltrain/MountainCarContinuous-v0",
        "rltrain.envs.classic.mountain_car_continuous:MountainCarContinuous",
        group="classic",
        description="Rock a car out of a valley with as little force as it takes.",
        max_episode_steps=999,
        reward_threshold=90.0,
    )
    register_env(
        "rltrain/Pendulum-v1",
        "rltrain.envs.classic.pendulum:Pendulum",
        group="classic",
        description="Swing a pendulum up and hold it there with bounded torque.",
        max_episode_steps=200,
    )
