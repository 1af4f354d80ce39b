"""The run folder: one folder for one run, held by one process at a time.

``runs/rltrain-CartPole-v1/ppo_1/`` holds::

    config.yaml      everything that decides the run; rltrain train --config reads it
    metadata.json    facts about the run: versions, command, device, spaces, outcome
    events.*         TensorBoard
    progress.csv     the same numbers as a table
    checkpoints/     step_000000123456/ ..., best.json
    videos/
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock

from rltrain.config import TrainConfig, with_classes
from rltrain.distributed.ranks import job_name
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.registry import agent_config_class
from rltrain.runs.checkpoint import (
    PREFIX,
    find_fault,
    list_checkpoints,
    newest_good,
    step_name,
    step_of,
    write_atomically,
)
from rltrain.settings import canonical, load_config, to_yaml, validate

CONFIG, METADATA, LOCK, BEST = "config.yaml", "metadata.json", ".lock", "best.json"
RECORDED = ("mode", "total_timesteps", "observation_space", "action_space")  # fields that all metadata must have


class RunFolder:
    """An existing run folder.

    Args:
        path: The folder.
        writes: Whether this process locks the folder and writes in it; of several ranks, only the first does.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / "checkpoints"
        self.videos = path / "videos"
        self._lock = filelock.FileLock(str(path / LOCK))

    @classmethod
    def create(cls, config: TrainConfig, metadata: Mapping[str, Any]) -> RunFolder:
        """Makes the next free folder ``<run_dir>/<env>/<algo>_<k>`` and locks it.

        Raises:
            ConfigError: It cannot be made.
        """
        parent, algo = _parent(config), config.algo.replace("/", "-")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            taken = _numbered(parent, algo)
            number = int(taken[-1].name.rpartition("_")[2]) + 1 if taken else 1
            while True:
                path = parent / f"{algo}_{number}"
                try:
                    path.mkdir()
                    break
                except FileExistsError:  # another run took the name just now
                    number += 1
            folder = cls(path)
            folder.lock()
            folder.checkpoints.mkdir()
            (path / CONFIG).write_text(to_yaml(config), encoding="utf-8")
            folder.update_metadata(metadata)
        except OSError as error:
            raise ConfigError(
                f"A run folder cannot be made in '{parent}': {error.strerror}.", "Choose another --run-dir."
            ) from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple[RunFolder, Path | None]:
        """The run folder that ``path`` names, and the checkpoint if it names one of its checkpoints.

        Raises:
            CheckpointError: There is no run there.
        """
        path = Path(path)
        checkpoint = None
        if path.name.startswith(PREFIX) and path.absolute().parent.name == "checkpoints":
            checkpoint, path = path, path.absolute().parents[1]
        if not path.exists():
            raise CheckpointError(f"There is no run folder '{path}'.", "Runs are in 'runs/<environment>/<agent>_<k>'.")
        if not (path / CONFIG).is_file():
            inside = sorted(str(p.parent) for p in path.glob(f"**/{CONFIG}")) if path.is_dir() else []
            fix = f"Did you mean '{inside[-1]}'?" if inside else "Name a folder that 'rltrain train' made."
            raise CheckpointError(f"'{path}' is not a run folder: it has no {CONFIG}.", fix)
        return cls(path), checkpoint

    def lock(self) -> None:
        """Locks the folder for this process until the process ends.

        Raises:
            RunError: Another process has it.
        """
        if not self.writes:
            return
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"'{self.path}' is in use by another process.", "Wait for it, or stop it.") from None

    def release(self) -> None:
        """Unlocks the folder."""
        self._lock.release()

    def config(self, classes: Sequence[type] = ()) -> TrainConfig:
        """The configuration that the run was made with.

        Args:
            classes: The user's own classes that the configuration names.

        Raises:
            ConfigError: The file was edited and is not valid any more.
        """
        data = canonical(load_config(self.path / CONFIG))
        env_id = str(data.get("env", {}).get("id"))
        if ":" in env_id:  # which would import a module
            raise ConfigError(f"'{self.path / CONFIG}' names code to run: '{env_id}'.", "Name the environment alone.")
        settings = with_classes(data.get("agent", {}), classes)
        agent = validate(agent_config_class(str(data.get("algo"))), settings, "agent.")
        return validate(TrainConfig, {**data, "agent": agent})

    def metadata(self) -> dict[str, Any]:
        """The metadata of the run.

        Raises:
            CheckpointError: It cannot be read.
        """
        try:
            data = dict(json.loads((self.path / METADATA).read_text(encoding="utf-8")))
            lost = next((key for key in RECORDED if key not in data), None)
            if lost is not None:
                raise ValueError(f"'{lost}' is missing")
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"'{self.path / METADATA}' cannot be read: {error}.", "The run folder is damaged."
            ) from error
        return data

    def update_metadata(self, changes: Mapping[str, Any]) -> None:
        """Adds entries to the metadata."""
        if not self.writes:
            return
        known = self.metadata() if (self.path / METADATA).exists() else {}
        write_atomically(self.path / METADATA, json.dumps({**known, **changes}, indent=1))

    def best(self) -> dict[str, Any] | None:
        """``step`` and ``mean_reward`` of the checkpoint that evaluated best, if there is one."""
        try:
            best = dict(json.loads((self.checkpoints / BEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return best if "step" in best else None

    def set_best(self, step: int | None, mean_reward: float) -> None:
        """Records the step of the best checkpoint; None for no checkpoint."""
        if not self.writes:
            return
        if step is None:
            (self.checkpoints / BEST).unlink(missing_ok=True)
            return
        text = json.dumps({"step": step, "mean_reward": mean_reward, "checkpoint": step_name(step)}, indent=1)
        write_atomically(self.checkpoints / BEST, text)

    def checkpoint(self, which: str | int | Path = "latest") -> tuple[Path, list[str]]:
        """A verified checkpoint.

        Args:
            which: ``latest``, ``best``, a step, or a checkpoint directory of this run.

        Returns:
            The checkpoint, and a line for each damaged one that was passed over.

        Raises:
            CheckpointError: There is none, or the one asked for is damaged.
        """
        known = [step_of(path) for path in list_checkpoints(self.checkpoints)]
        if not known:
            raise CheckpointError(
                f"'{self.path}' has no checkpoint yet.", "Train for longer, or set a smaller --save-freq."
            )
        if which == "latest":
            skipped: list[str] = []
            for path, fault in newest_good(self.checkpoints):
                if fault is None:
                    return path, skipped
                skipped.append(f"The checkpoint '{path}' is damaged and was passed over: {fault}.")
            raise CheckpointError(f"No checkpoint of '{self.path}' is whole. {skipped[0]}", "Train anew.")
        if which == "best":
            best = self.best()
            if best is None:
                raise CheckpointError(
                    f"'{self.path}' was not evaluated while it trained, so no checkpoint is the best.",
                    "Use --checkpoint latest, or train with --eval-freq.",
                )
            which = best["step"]
        if isinstance(which, Path):
            which = which.name.removeprefix(PREFIX)
        if not str(which).isdigit() or int(which) not in known:
            named = ["latest", *(["best"] if self.best() else [])]
            there = ", ".join(map(str, [*named, *known]))
            raise CheckpointError(f"'{self.path}' has no checkpoint '{which}'.", f"It has: {there}.")
        path = self.checkpoints / step_name(int(which))
        fault = find_fault(path)
        if fault is not None:
            raise CheckpointError(f"The checkpoint '{path}' is damaged: {fault}.", "Use --checkpoint latest.")
        return path, []


def find_unfinished(config: TrainConfig) -> Path | None:
    """The newest run folder that this process's job has begun and not finished, if there is one.

    It has the same configuration and a checkpoint to continue from; see
    :func:`~rltrain.distributed.ranks.job_name`.
    """
    name, goes_on = job_name() or (None, False)
    if not goes_on:
        return None
    text = to_yaml(config)
    for path in reversed(_numbered(_parent(config), config.algo)):
        folder = RunFolder(path)
        try:
            metadata = folder.metadata()
            same = metadata.get("job") == name and (path / CONFIG).read_text(encoding="utf-8") == text
        except (CheckpointError, OSError):
            continue
        if same:
            return path if metadata.get("status") != "completed" and list_checkpoints(folder.checkpoints) else None
    return None


def _parent(config: TrainConfig) -> Path:
    """The folder with the runs of an environment."""
    return Path(config.run_dir) / config.env.id.replace("/", "-")


def _numbered(parent: Path, algo: str) -> list[Path]:
    """The folders ``<algo>_<k>``, by number."""
    prefix = f"{algo.replace('/', '-')}_"
    found = (path for path in parent.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdigit())
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


def describe_machine() -> dict[str, Any]:
    """The facts about this machine that a run records."""
    packages = ["rltrain", "torch", "gymnasium", "numpy", "tensorboard"]
    packages += [name for name in ("stable_baselines3", "sb3_contrib") if name in sys.modules]
    job = job_name()
    return {
        **({} if job is None else {"job": job[0]}),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a git checkout."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
