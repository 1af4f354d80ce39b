"""The run folder: one folder for one run, held by one process at a time.

``runs/rltrain-CartPole-v1/ppo_1/`` holds::

    config.yaml      everything that decides the run; rltrain train --config reads it
    metadata.json    facts about the run: versions, command, device, spaces, outcome; with a checksum
    events.*         TensorBoard
    progress.csv     the same numbers as a table
    checkpoints/     step_000000123456/ ..., best.json
    videos/
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rltrain.config import TrainConfig, with_classes
from rltrain.distributed.ranks import job_name
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.registry import agent_config_class
from rltrain.runs.find import BEST, find_checkpoint, read_best, read_checkpoint
from rltrain.runs.layout import PREFIX, list_checkpoints, number_after, step_name
from rltrain.runs.lock import FolderLock
from rltrain.runs.machine import describe_machine as describe_machine
from rltrain.runs.verify import read_facts
from rltrain.settings import YAML_LIMIT, canonical, parse_yaml, to_yaml, validate
from rltrain.storage.files import (
    Damaged,
    check_folder,
    exists,
    keep_damaged,
    may_be_whole,
    read_bytes,
    reason,
    remove,
    write_atomically,
    write_new,
)
from rltrain.storage.records import read_record, sealed

BEFORE = {"action_masks": False}
"""Options of the environment in runs that are older than the options, if other than the defaults of today."""
CONFIG, METADATA = "config.yaml", "metadata.json"
RECORDED = {"mode": dict, "total_timesteps": int, "observation_space": dict, "action_space": dict}
"""Fields that all metadata must have, and their types."""
OUTCOME = ("status", "error", "steps", "seconds", "compile_seconds", "stopped_by", "evaluation")
"""Fields of the metadata that tell how far the run has come; checkpoints keep a copy of all others."""
T = TypeVar("T")


class RunConfigError(CheckpointError, ConfigError):
    """The configuration in a run folder cannot be read, or is not the one that the run was made with."""


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
        self._lock = FolderLock(path)
        self._known: dict[str, Any] | None = None  # the metadata, once this process has written them
        self._config_digest: str | None = None

    @classmethod
    def create(cls, config: TrainConfig, metadata: Mapping[str, Any]) -> RunFolder:
        """Makes the next free folder ``<run_dir>/<env>/<algo>_<k>`` and locks it.

        Raises:
            ConfigError: It cannot be made, and nothing of it is left.
        """
        parent, algo, text = _parent(config), config.algo.replace("/", "-"), to_yaml(config).encode()
        if len(text) > YAML_LIMIT:
            raise ConfigError(
                f"The configuration has {len(text):,} bytes, more than the {YAML_LIMIT:,} that are read back.",
                "Let the constructor of the environment read its data from a file.",
            )
        folder = None
        try:
            parent.mkdir(parents=True, exist_ok=True)
            number = 1 + max((number_after(f"{algo}_", path.name) or 0 for path in _numbered(parent, algo)), default=0)
            while folder is None:
                try:
                    (parent / f"{algo}_{number}").mkdir()
                    folder = cls(parent / f"{algo}_{number}")
                except FileExistsError:  # another run took the name just now
                    number += 1
            folder.lock()
            folder.checkpoints.mkdir()
            folder._config_digest = hashlib.sha256(text).hexdigest()
            write_new(folder.path / CONFIG, text)
            folder._write_metadata(dict(metadata))
        except (OSError, RunError) as error:
            if folder is not None:
                folder.release()
                remove(folder.path)
            name = getattr(error, "filename", None)
            where = f" ({Path(name).name})" if folder is not None and name else ""
            raise ConfigError(
                f"A run folder cannot be made in '{parent}': {reason(error)}{where}.", "Choose another --run-dir."
            ) from error
        return folder

    @classmethod
    def open(cls, path: str | Path) -> tuple[RunFolder, Path | None]:
        """The run folder that ``path`` names, and the checkpoint if it names one of its checkpoints.

        Raises:
            CheckpointError: There is no run there, it cannot be read, or a part of it is a link to somewhere else.
        """
        if not isinstance(path, str | os.PathLike):
            raise CheckpointError(f"{path!r} is no path of a run folder.", "Give the folder as text or as a Path.")
        path = Path(path)
        checkpoint = None
        if path.name.startswith(PREFIX) and path.absolute().parent.name == "checkpoints":
            checkpoint, path = path, path.absolute().parents[1]
        folder = cls(path)
        try:
            if not path.exists():
                raise CheckpointError(
                    f"There is no run folder '{path}'.", "Runs are in 'runs/<environment>/<agent>_<k>'."
                )
            if not exists(path / CONFIG):
                inside = _runs_inside(path)
                fix = f"Did you mean '{inside[-1]}'?" if inside else "Name a folder that 'rltrain train' made."
                if list_checkpoints(folder.checkpoints):
                    fix = f"It has checkpoints: put the {CONFIG} that it was made with back into it."
                raise CheckpointError(f"'{path}' is not a run folder: it has no {CONFIG}.", fix)
            for part in (folder.checkpoints, folder.videos):
                check_folder(part)
        except OSError as error:
            fix = "Make it readable." if may_be_whole(error) else "Links inside a run folder are not followed."
            raise CheckpointError(f"'{error.filename or path}' cannot be used: {reason(error)}.", fix) from error
        return folder, checkpoint

    def lock(self) -> None:
        """Locks the folder for this process until the process ends.

        Raises:
            RunError: Another process has it, or it cannot be locked.
        """
        if self.writes:
            self._lock.acquire()

    def release(self) -> None:
        """Unlocks the folder."""
        self._lock.release()

    def check_place(self) -> None:
        """Checks that the folder is where it was when it was locked.

        Raises:
            FolderMoved: It is not.
        """
        self._lock.check_place()

    def config(self, classes: Sequence[type] = ()) -> TrainConfig:
        """The configuration that the run was made with. If the file was changed since, a warning says so.

        Args:
            classes: The user's own classes that the configuration names.

        Raises:
            ConfigError: It names an agent that is not known here.
            RunConfigError: The file cannot be read, is damaged, or was changed and names what there is not.
        """
        path = self.path / CONFIG
        try:
            content = read_bytes(path, YAML_LIMIT)
            self._config_digest = hashlib.sha256(content).hexdigest()
            data = canonical(parse_yaml(content.decode(), str(path)))
            env_id = str(data.get("env", {}).get("id"))
            if ":" in env_id:  # which would import a module
                raise ConfigError(f"'{path}' names code to run: '{env_id}'.", "Name the environment alone.")
            data["env"] = {**BEFORE, **data.get("env", {})}
        except (OSError, Damaged, UnicodeDecodeError) as error:
            fix = "Make it readable." if may_be_whole(error) else f"Put back the {CONFIG} that the run was made with."
            why = "it is not text" if isinstance(error, UnicodeDecodeError) else reason(error)
            raise RunConfigError(f"'{path}' cannot be read: {why}.", fix) from error
        except ConfigError as error:
            raise self._unfit(error) from error
        try:
            model = agent_config_class(str(data.get("algo")))
        except ConfigError as error:
            if self._config_changed():
                raise self._unfit(error) from error
            raise
        try:
            agent = validate(model, with_classes(data.get("agent", {}), classes), "agent.")
            config = validate(TrainConfig, {**data, "agent": agent})
        except ConfigError as error:
            raise self._unfit(error) from error
        if self._config_changed():
            warnings.warn(f"'{path}' was changed since the run was made.", stacklevel=2)
        return config

    def _unfit(self, error: ConfigError) -> RunConfigError:
        """An error about the configuration that names its file."""
        path = str(self.path / CONFIG)
        cause = error.cause if path in error.cause else f"'{path}' is damaged or was changed: {error.cause}"
        return RunConfigError(cause, error.fix)

    def _config_changed(self) -> bool:
        """Whether the configuration is another one than when the newest checkpoint was saved."""
        with suppress(CheckpointError):
            return self._copies().get("config_sha256", self._config_digest) != self._config_digest
        return False

    def _copies(self) -> dict[str, Any]:
        """What the newest checkpoint that says anything says about the run."""
        return next(filter(None, map(read_facts, reversed(list_checkpoints(self.checkpoints)))), {})

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps about its run: the metadata apart from the outcome, and which config.yaml it had."""
        if self._config_digest is None:
            with suppress(OSError, Damaged):
                self._config_digest = hashlib.sha256(read_bytes(self.path / CONFIG)).hexdigest()
        known = self.metadata() if self._known is None else self._known
        kept = {key: value for key, value in known.items() if key not in OUTCOME}
        return {"config_sha256": self._config_digest, "metadata": kept}

    def metadata(self) -> dict[str, Any]:
        """The metadata of the run. If they are lost or damaged, the copy in the newest checkpoint, with a warning.

        Raises:
            CheckpointError: They cannot be read, and no checkpoint has a copy.
        """
        path = self.path / METADATA
        try:
            return _with_all_fields(read_record(path))
        except (OSError, Damaged) as error:
            fault = error
        copy: dict[str, Any] = {}
        if not may_be_whole(fault):
            with suppress(CheckpointError, Damaged, TypeError, ValueError):
                copy = _with_all_fields(dict(self._copies().get("metadata", {})))
        if not copy:
            fix = "Make it readable." if may_be_whole(fault) else "The run folder is damaged."
            raise CheckpointError(f"'{path}' cannot be read: {reason(fault)}.", fix) from fault
        warnings.warn(f"'{path}' cannot be read: {reason(fault)}. Its copy in a checkpoint is used.", stacklevel=2)
        return copy

    def update_metadata(self, changes: Mapping[str, Any]) -> None:
        """Adds entries to the metadata.

        Raises:
            RunError: They cannot be written, or the folder is not where it was.
        """
        if not self.writes:
            return
        self.check_place()
        known = self.metadata() if self._known is None else self._known
        path = self.path / METADATA
        try:
            if self._known is None and exists(path) and not self._is_sound(path):
                keep_damaged(path)
            self._write_metadata({**known, **changes})
        except OSError as error:
            raise RunError(
                f"'{path}' cannot be written: {reason(error)}.",
                "Make room, or see that you may write there.",
            ) from error

    @staticmethod
    def _is_sound(path: Path) -> bool:
        with suppress(OSError, Damaged):
            return bool(_with_all_fields(read_record(path)))
        return False

    def _write_metadata(self, data: dict[str, Any]) -> None:
        write_atomically(self.path / METADATA, sealed(data))
        self._known = data

    def best(self) -> dict[str, Any] | None:
        """``step`` and ``mean_reward`` of the checkpoint that evaluated best, if that is known."""
        with suppress(CheckpointError):
            return read_best(self.checkpoints)
        return None

    def set_best(self, step: int | None, mean_reward: float) -> None:
        """Records the step of the best checkpoint; None for no checkpoint.

        Raises:
            CheckpointError: It cannot be written.
        """
        if not self.writes:
            return
        path = self.checkpoints / BEST
        try:
            if step is None:
                path.unlink(missing_ok=True)
            else:
                best = {"step": step, "mean_reward": mean_reward, "checkpoint": step_name(step)}
                write_atomically(path, sealed(best))
        except OSError as error:
            raise CheckpointError(f"'{path}' cannot be written: {reason(error)}.", "Make room.") from error

    def checkpoint(self, which: str | int | Path = "latest") -> tuple[Path, list[str]]:
        """A verified checkpoint.

        Args:
            which: ``latest``, ``best``, a step, or a checkpoint directory of this run.

        Returns:
            The checkpoint, and a line for each damaged one that was passed over.

        Raises:
            CheckpointError: There is none, the one asked for is damaged, or one may be whole and cannot be read.
        """
        return find_checkpoint(self.path, which)

    def read(self, which: str | int | Path, use: Callable[[Path], T]) -> tuple[Path, list[str], T]:
        """Reads a checkpoint by ``use``, and another one if the run that it belongs to removes it meanwhile.

        Returns:
            What :meth:`checkpoint` returns, and what ``use`` returns.

        Raises:
            CheckpointError: See :meth:`checkpoint`.
        """
        return read_checkpoint(self.path, which, use)


def _with_all_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    for key, kind in RECORDED.items():
        if key not in metadata:
            raise Damaged(f"'{key}' is missing")
        if not isinstance(metadata[key], kind):
            raise Damaged(f"'{key}' is no {kind.__name__}")
    return metadata


def _runs_inside(path: Path) -> list[str]:
    """Run folders a few levels inside another folder; no more of it is looked at."""
    patterns = [f"{'*/' * depth}{CONFIG}" for depth in (1, 2, 3)]
    with suppress(OSError):
        return sorted(str(p.parent) for pattern in patterns for p in islice(path.glob(pattern), 100))
    return []


def find_unfinished(config: TrainConfig) -> Path | None:
    """The newest run folder that this process's job has begun and not finished, if there is one.

    It has the same configuration and a checkpoint to continue from; see
    :func:`~rltrain.distributed.ranks.job_name`.
    """
    name, goes_on = job_name() or (None, False)
    if not goes_on:
        return None
    text = to_yaml(config).encode()
    for path in reversed(_numbered(_parent(config), config.algo)):
        folder = RunFolder(path)
        try:
            metadata = folder.metadata()
            same = metadata.get("job") == name and read_bytes(path / CONFIG) == text
        except (CheckpointError, OSError, Damaged):
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
    found = {path: number_after(prefix, path.name) for path in parent.glob(f"{prefix}*")}
    return sorted((path for path, number in found.items() if number is not None), key=lambda path: found[path] or 0)
