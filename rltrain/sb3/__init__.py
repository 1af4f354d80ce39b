"""Stable-Baselines3: its algorithms as agents, policies in both directions, and our environments as its ``VecEnv``.

Its algorithms have their own training loop, which :class:`~rltrain.sb3.trainer.SB3Trainer` runs. Importing this imports
neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rltrain.errors import ConfigError
from rltrain.plugins import register_exporter, register_importer
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


def register_formats() -> None:
    """Registers its zip files; called through the entry-point group ``rltrain.exporters``."""
    what = "Stable-Baselines3: a zip that its load() opens, of PPO and DQN [<run>/sb3_<step>.zip]"
    register_exporter("sb3", "rltrain.sb3:export_zip", description=what)
    register_importer(".zip", "rltrain.sb3.importer:load_policy")


def export_zip(run: str | Path, out: str | Path | None = None, *, checkpoint: str = "latest") -> dict[Path, str]:
    """Writes a policy for Stable-Baselines3; see :func:`rltrain.sb3.exporter.export` for the arguments and errors.

    Returns:
        By file that was written, how to open it.
    """
    need()
    from rltrain.sb3.exporter import export

    algorithm, (path, *statistics) = export(run, out, checkpoint=checkpoint)
    how = "VecNormalize.load(..., venv) scales the observations; set its 'training' to False to evaluate"
    return {path: f"{algorithm}.load(...) opens it", **dict.fromkeys(statistics, how)}


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
