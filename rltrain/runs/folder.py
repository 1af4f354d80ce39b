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

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.naming.arguments import is_blank
from rltrain.runs.config_file import CONFIG, DIGEST, ConfigFile
from rltrain.runs.find import BEST, find_checkpoint, read_best, read_checkpoint
from rltrain.runs.layout import CHECKPOINTS, PREFIX, list_checkpoints, step_name
from rltrain.runs.lock import FolderLock
from rltrain.runs.metadata import Metadata
from rltrain.runs.places import next_folder, parent_of, runs_inside
from rltrain.settings import YAML_LIMIT, to_yaml
from rltrain.storage.files import (
    check_folder,
    exists,
    may_be_whole,
    reason,
    remove,
    write_atomically,
)
from rltrain.storage.records import sealed

T = TypeVar("T")


class RunFolder:
    """An existing run folder.

    Args:
        path: The folder.
        writes: Whether this process locks the folder and writes in it; of several ranks, only the first does.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes
        self.checkpoints = path / CHECKPOINTS
        self.videos = path / "videos"
        self._lock = FolderLock(path)
        self._config = ConfigFile(path)
        self._metadata = Metadata(path)

    @classmethod
    def create(cls, config: TrainConfig, metadata: Mapping[str, Any]) -> RunFolder:
        """Makes the next free folder ``<run_dir>/<env>/<algo>_<k>`` and locks it.

        Raises:
            ConfigError: It cannot be made, and nothing of it is left.
        """
        text = to_yaml(config).encode()
        if len(text) > YAML_LIMIT:
            raise ConfigError(
                f"The configuration has {len(text):,} bytes, more than the {YAML_LIMIT:,} that are read back.",
                "Let the constructor of the environment read its data from a file.",
            )
        folder = None
        try:
            folder = cls(next_folder(config))
            folder.lock()
            folder.checkpoints.mkdir()
            folder._config.write(text)
            folder._metadata.write(dict(metadata))
        except (OSError, RunError) as error:
            if folder is not None:
                folder.release()
                remove(folder.path)
            name = getattr(error, "filename", None)
            where = f" ({Path(name).name})" if folder is not None and name else ""
            raise ConfigError(
                f"A run folder cannot be made in '{parent_of(config)}': {reason(error)}{where}.",
                "Choose another --run-dir.",
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
        if is_blank(path):
            raise CheckpointError(f"The path of the run folder is blank: '{path}'.", "Name a run folder.")
        path = Path(path)
        checkpoint = None
        if path.name.startswith(PREFIX) and path.absolute().parent.name == CHECKPOINTS:
            checkpoint, path = path, path.absolute().parents[1]
        folder = cls(path)
        try:
            if not path.exists():
                raise CheckpointError(
                    f"There is no run folder '{path}'.", "Runs are in 'runs/<environment>/<agent>_<k>'."
                )
            if not exists(path / CONFIG):
                inside = runs_inside(path)
                around = [each for each in path.absolute().parents[:3] if exists(each / CONFIG)]
                meant = inside[-1] if inside else os.path.relpath(around[0]) if around else None
                fix = f"Did you mean '{meant}'?" if meant else "Name a folder that 'rltrain train' made."
                if path.suffix == ".zip":
                    fix = f"Make a run of a zip of Stable-Baselines3's: rltrain import-sb3 {path} --env ENV"
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
        return self._config.read(classes)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps about its run: the metadata apart from the outcome, and which config.yaml it had."""
        return {DIGEST: self._config.digest(), "metadata": self._metadata.kept()}

    def metadata(self) -> dict[str, Any]:
        """The metadata of the run. If they are lost or damaged, the copy in the newest checkpoint, with a warning.

        Raises:
            CheckpointError: They cannot be read, and no checkpoint has a copy.
        """
        return self._metadata.read()

    def update_metadata(self, changes: Mapping[str, Any]) -> None:
        """Adds entries to the metadata.

        Raises:
            RunError: They cannot be written, or the folder is not where it was.
        """
        if self.writes:
            self.check_place()
            self._metadata.update(changes)

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
