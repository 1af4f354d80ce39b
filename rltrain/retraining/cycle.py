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
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rltrain.errors import CheckpointError, RunError
from rltrain.runs.layout import number_after
from rltrain.storage.files import Damaged, check_folder, exists, reason, write_atomically
from rltrain.storage.records import now, read_record, sealed

STATE, PREFIX = "state.json", "cycle_"
FAILED = "failed"


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Collected(_Part):
    checksum: str = ""  # there is none where episodes were too few


class _Trained(_Part):
    run: str


class _Numbered(_Part):
    version: Annotated[int, Field(ge=1)]


class _Steps(_Part):
    """What later steps read of earlier ones."""

    collect: _Collected | None = None
    train: _Trained | None = None
    register_: Annotated[_Numbered | None, Field(alias="register")] = None


class _State(_Part):
    """What of a state is read again."""

    cycle: Annotated[int, Field(ge=1)]
    champion: Annotated[int, Field(ge=1)]
    since: float | None
    until: float
    settings: dict[str, Any]
    steps: _Steps
    outcome: str | None


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
            if _State.model_validate(state).cycle != number_after(PREFIX, path.name):
                raise Damaged(f"it is of cycle {state['cycle']}")
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise CheckpointError(f"'{path / STATE}' cannot be used: {why}.", "Move the cycle away.") from error
        except (OSError, Damaged) as error:
            raise CheckpointError(
                f"'{path / STATE}' cannot be used: {reason(error)}.", "Move the cycle away."
            ) from error
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
