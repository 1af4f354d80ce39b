"""The algorithms of Stable-Baselines3 and sb3-contrib, and the packages they are in. Importing this needs neither."""

from __future__ import annotations

from importlib.util import find_spec

from rltrain.errors import ConfigError

PACKAGES = ("stable_baselines3", "sb3_contrib")
ALGORITHMS = {
    "PPO": ("stable_baselines3", "Proximal Policy Optimization"),
    "A2C": ("stable_baselines3", "Advantage Actor Critic"),
    "DQN": ("stable_baselines3", "Deep Q-learning; discrete actions"),
    "SAC": ("stable_baselines3", "Soft Actor Critic; continuous actions"),
    "TD3": ("stable_baselines3", "Twin Delayed DDPG; continuous actions"),
    "DDPG": ("stable_baselines3", "Deep Deterministic Policy Gradient; continuous actions"),
    "TRPO": ("sb3_contrib", "Trust Region Policy Optimization"),
    "QRDQN": ("sb3_contrib", "Quantile Regression DQN; discrete actions"),
    "TQC": ("sb3_contrib", "Truncated Quantile Critics; continuous actions"),
    "CrossQ": ("sb3_contrib", "Q-learning without target networks; continuous actions"),
}
"""Class name, package and description of every algorithm."""


def install(package: str) -> str:
    """The command that installs a package."""
    return "pip install 'rltrain[sb3]'" if package in PACKAGES else f"pip install {package}"


def is_missing(package: str) -> bool:
    """Whether a package is not installed."""
    return find_spec(package) is None


def need(package: str = "stable_baselines3") -> None:
    """Raises an error if a package is missing.

    Raises:
        ConfigError: It is not installed.
    """
    if is_missing(package):
        raise ConfigError(f"The package {package.replace('_', '-')} is not installed.", f"Run: {install(package)}")
