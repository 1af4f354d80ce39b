"""A cycle on disk: which of its steps are done, what they gave, and how it ended.

FOLDER/cycle_0001/
  state.json     settings, champion, the steps that are done with their results, and the outcome; replaced in one step
  episodes/      the dataset that was collected
  runs/          the run that was trained
FOLDER/reference_v3/   the dataset that drift from version 3 is seen by
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, RunError
from rltrain.runs.layout import number_after
from rltrain.storage.files import Damaged, check_folder, exists, reason, write_atomically
from rltrain.storage.records import now, read_record, sealed

STATE, PREFIX = "state.json", "cycle_"
FAILED = "failed"


class Cycle:
    """One pass through the loop.

    Args:
        path: Its folder.
        state: What its ``state.json`` says.
    """

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path, self.state = path, state

    @classmethod
    def begin(cls, folder: Path, number: int, **facts: Any) -> Cycle:
        """A new cycle.

        Raises:
            RunError: It cannot be written.
        """
        path = folder / f"{PREFIX}{number:04}"
        try:
            path.mkdir(exist_ok=True)  # one without a state was killed before it began
            check_folder(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        cycle = cls(path, {"cycle": number, "began": now(), **facts, "steps": {}, "outcome": None})
        cycle._write()
        return cycle

    @classmethod
    def read(cls, path: Path) -> Cycle:
        """The cycle in a folder.

        Raises:
            CheckpointError: Its state was changed, or cannot be read.
        """
        try:
            check_folder(path)
            state = read_record(path / STATE)
            if not isinstance(state["steps"], dict) or not isinstance(state["cycle"], int):
                raise Damaged("it has no steps")
        except (OSError, Damaged, KeyError) as error:
            why = f"{error} is missing" if isinstance(error, KeyError) else reason(error)
            raise CheckpointError(f"'{path / STATE}' cannot be used: {why}.", "Move the cycle away.") from error
        return cls(path, state)

    @property
    def number(self) -> int:
        """Its number, from 1 on."""
        return int(self.state["cycle"])

    @property
    def outcome(self) -> str | None:
        """How it ended; None if it has not."""
        return self.state["outcome"]

    def result(self, step: str) -> dict[str, Any] | None:
        """What a step gave; None if it is not done."""
        found = self.state["steps"].get(step)
        return dict(found) if isinstance(found, Mapping) else None

    def done(self, step: str, facts: Mapping[str, Any]) -> None:
        """Notes that a step is done.

        Raises:
            RunError: It cannot be written.
        """
        self.state["steps"][step] = {**facts, "done": now()}
        self._write()

    def end(self, outcome: str) -> None:
        """Notes how it ended.

        Raises:
            RunError: It cannot be written.
        """
        self.state |= {"outcome": outcome, "ended": now()}
        self._write()

    def fail(self, error: str) -> None:
        """Notes that an error ended it.

        Raises:
            RunError: It cannot be written.
        """
        self.state["error"] = error
        self.end(FAILED)

    def _write(self) -> None:
        try:
            write_atomically(self.path / STATE, sealed(self.state))
        except OSError as error:
            raise _unwritable(self.path, error) from error


def cycles_in(folder: Path) -> list[Cycle]:
    """The cycles in a folder, oldest first.

    Raises:
        CheckpointError: One cannot be read.
    """
    try:
        names = [path.name for path in folder.iterdir()] if exists(folder) else []
    except OSError as error:
        raise CheckpointError(f"'{folder}' cannot be read: {reason(error)}.", "Make it readable.") from error
    numbers = sorted(number for name in names if (number := number_after(PREFIX, name)) is not None)
    paths = [folder / f"{PREFIX}{number:04}" for number in numbers]
    return [Cycle.read(path) for path in paths if exists(path / STATE)]


def _unwritable(path: Path, error: OSError) -> RunError:
    return RunError(f"'{path}' cannot be written: {reason(error)}.", "Make room, or name another folder.")
