"""Machines with their equations of motion, controlled by continuous or by a few discrete actions."""

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    register_env(
        "rltrain/CartPoleSwingUp-v0",
        "rltrain.envs.control.cartpole_swing_up:CartPoleSwingUp",
        group="control",
        description="Pump a hanging pole up on a cart, and keep it there.",
        max_episode_steps=500,
    )
    register_env(
        "rltrain/DoublePendulum-v0",
        "rltrain.envs.control.double_pendulum:DoublePendulum",
        group="control",
        description="Balance two rods, one upon the other, on a cart.",
        max_episode_steps=500,
        reward_threshold=450.0,
    )
    register_env(
        "rltrain/Reacher-v0",
        "rltrain.envs.control.reacher:Reacher",
        group="control",
        description="Bring the tip of a two-link arm to a target.",
        max_episode_steps=100,
    )
    register_env(
        "rltrain/QuadrotorHover-v0",
        "rltrain.envs.control.quadrotor:Quadrotor",
        group="control",
        description="Hover at a point with two rotors.",
        max_episode_steps=250,
    )
    register_env(
        "rltrain/QuadrotorTrack-v0",
        "rltrain.envs.control.quadrotor:Quadrotor",
        group="control",
        description="Fly a figure of eight with two rotors.",
        max_episode_steps=250,
        kwargs={"path_width": 1.5, "path_height": 0.8, "lookahead": 3},
    )
    register_env(
        "rltrain/VerticalLanding-v0",
        "rltrain.envs.control.vertical_landing:VerticalLanding",
        group="control",
        description="Set a rocket down on its pad, upright and softly.",
        max_episode_steps=400,
        reward_threshold=95.0,
    )
    register_env(
        "rltrain/VerticalLandingContinuous-v0",
        "rltrain.envs.control.vertical_landing:VerticalLanding",
        group="control",
        description="Set a rocket down on its pad, upright and softly, with throttles.",
        max_episode_steps=400,
        reward_threshold=95.0,
        kwargs={"continuous": True},
    )
    register_env(
        "rltrain/CarParking-v0",
        "rltrain.envs.control.car_parking:CarParking",
        group="control",
        description="Park a car between two others without touching them.",
        max_episode_steps=200,
    )
    register_env(
        "rltrain/PlanarWalker-v0",
        "rltrain.envs.control.planar_walker:PlanarWalker",
        group="control",
        description="Walk on two legs with knees and feet.",
        max_episode_steps=500,
    )
    register_env(
        "rltrain/ArmPose-v0",
        "rltrain.envs.control.arm_pose:ArmPose",
        group="control",
        description="Bring the tool of a six-joint arm to a place and an orientation.",
        max_episode_steps=100,
    )
