"""Stable-Baselines3: its algorithms as agents, policies in both directions, and our environments as its ``VecEnv``.

Its algorithms have their own training loop, which :class:`~rltrain.sb3.trainer.SB3Trainer` runs. Importing this imports
neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

from importlib.util import find_spec

from rltrain.errors import ConfigError
from rltrain.registry import register_agent

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


def register() -> None:
    """Registers them as ``sb3/ppo`` and so on; called through the entry-point group ``rltrain.agents``."""
    for name, (package, what) in ALGORITHMS.items():
        missing = "" if find_spec(package) else f" Needs: {install(package)}"
        register_agent(
            f"sb3/{name.lower()}",
            f"rltrain.sb3.agent:{name}",
            f"rltrain.sb3.settings:{name}",
            trainer="rltrain.sb3.trainer:SB3Trainer",
            description=f"Stable-Baselines3: {what}.{missing}",
        )


def install(package: str) -> str:
    """The command that installs a package."""
    return "pip install 'rltrain[sb3]'" if package in PACKAGES else f"pip install {package}"


def need(package: str = "stable_baselines3") -> None:
    """Raises an error if a package is missing.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec(package) is None:
        raise ConfigError(f"The package {package.replace('_', '-')} is not installed.", f"Run: {install(package)}")
