"""Stable-Baselines3: its algorithms as agents, policies in both directions, and our environments as its ``VecEnv``.

Its algorithms have their own training loop, which :class:`~rltrain.sb3.trainer.SB3Trainer` runs. Importing this imports
neither Stable-Baselines3 nor torch.
"""

from __future__ import annotations

from pathlib import Path

from rltrain.plugins import register_exporter, register_importer
from rltrain.registry import register_agent
from rltrain.sb3.algorithms import ALGORITHMS, install, is_missing, need


def register() -> None:
    """Registers them as ``sb3/ppo`` and so on; called through the entry-point group ``rltrain.agents``."""
    for name, (package, what) in ALGORITHMS.items():
        missing = f" Needs: {install(package)}" if is_missing(package) else ""
        register_agent(
            f"sb3/{name.lower()}",
            f"rltrain.sb3.agent:{name}",
            f"rltrain.sb3.settings:{name}",
            trainer="rltrain.sb3.trainer:SB3Trainer",
            description=f"Stable-Baselines3: {what}.{missing}",
        )


def register_formats() -> None:
    """Registers its zip files; called through the entry-point group ``rltrain.exporters``."""
    what = "Stable-Baselines3: a zip that its load() opens, of PPO, DQN and SAC [<run>/sb3_<step>.zip]"
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
