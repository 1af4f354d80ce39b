"""What the trackers of services and of other libraries share: the id of a run there, and which models are kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from rltrain.errors import ConfigError
from rltrain.storage.files import Damaged, is_gone, read_text, write_atomically
from rltrain.tracker import RunInfo, Tracker

LOG_MODEL = "RLTRAIN_LOG_MODEL"
"""Environment variable: ``end`` to hand over the last checkpoint (the default), ``all`` for each, ``none`` for none."""
CHOICES = ("end", "all", "none")
ENDING = ".id"
"""Of the file in the run folder that keeps the id of the run in a service."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_LIMIT = 4096  # bytes


class ServiceTracker(Tracker):
    """Base of trackers of other libraries.

    A model is a folder that ``rltrain eval`` and ``rltrain resume`` take as a run: settings, facts, and a checkpoint.

    Args:
        run: The run.

    Attributes:
        known_id: The id that the run has in this service, if it was tracked there before.
        finished: Whether the run has ended in good order.
    """

    service: ClassVar[str]
    """The name of the service, which the file with the id has too."""

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        wanted = os.environ.get(LOG_MODEL, CHOICES[0])
        if wanted not in CHOICES:
            raise ConfigError(f"{LOG_MODEL}={wanted} does not fit.", f"It is one of {', '.join(CHOICES)}.")
        self._wanted = wanted
        self._checkpoint: Path | None = None
        self.known_id = None if run.resume_step is None else read_id(run.run_dir, self.service)
        self.finished = False

    def remember(self, id: str, where: str = "") -> None:
        """Keeps the id in the run folder, so that a resumed run goes on with the same one.

        Args:
            id: The id.
            where: Where people find it: an address, or a command.
        """
        write_atomically(self.run.run_dir / f"{self.service}{ENDING}", f"{id}\n{where}\n" if where else f"{id}\n")

    def artifact(self, path: Path, kind: str) -> None:
        """Hands over a file, or notes a checkpoint until it is known whether it is the last one."""
        if kind != "checkpoint":
            self.add_file(path, kind)
        elif self._wanted == "all":
            self.add_model(path)
        else:
            self._checkpoint = path

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Hands over the last checkpoint."""
        self.finished = True
        if self._wanted == "end" and self._checkpoint is not None:
            self.add_model(self._checkpoint)

    def add_file(self, path: Path, kind: str) -> None:
        """Hands over a file that is no checkpoint."""

    def add_model(self, checkpoint: Path) -> None:
        """Hands over a checkpoint and what belongs to it, see :meth:`model_files`."""

    def model_files(self, checkpoint: Path) -> dict[str, Path]:
        """The files of a model, by their names in it; those that are gone by now are left out."""
        run_dir = self.run.run_dir
        files = [run_dir / "config.yaml", run_dir / "metadata.json", *sorted(checkpoint.glob("*"))]
        return {str(file.relative_to(run_dir).as_posix()): file for file in files if file.is_file()}


def read_id(run_dir: Path, service: str) -> str | None:
    """The id of a run in a service, as its folder keeps it; None if there is none that could be one."""
    try:
        lines = read_text(run_dir / f"{service}{ENDING}", _LIMIT).splitlines()
    except Damaged:
        return None
    except OSError as error:
        if is_gone(error):
            return None
        raise
    return lines[0] if lines and _ID.fullmatch(lines[0]) else None


def places(run_dir: Path) -> dict[str, str]:
    """Where a run is found in the services that track it, by the name of the service."""
    found = {}
    for file in sorted(run_dir.glob(f"*{ENDING}")):
        try:
            lines = read_text(file, _LIMIT).splitlines()
        except (OSError, Damaged):
            continue
        if len(lines) > 1:
            found[file.name.removesuffix(ENDING)] = lines[1]
    return found
