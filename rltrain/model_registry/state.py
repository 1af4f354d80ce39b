"""The aliases and the log of a policy's versions: one small file, replaced in a single step under a lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rltrain.errors import RunError
from rltrain.model_registry.contents import broken
from rltrain.runs.lock import FolderLock
from rltrain.storage.files import Damaged, check_folder, exists, reason, remove, remove_left_overs, write_atomically
from rltrain.storage.records import now, read_record, sealed

STATE = "state.json"
WRITING = ".writing-"
"""How the names of versions begin that are being written."""


def read_state(folder: Path) -> dict[str, Any]:
    """The aliases and the log.

    Raises:
        CheckpointError: They were changed, or cannot be read.
    """
    try:
        if not exists(folder / STATE):
            return {"aliases": {}, "log": []}
        state = read_record(folder / STATE)
        aliases, log = state["aliases"], state["log"]
        if not (isinstance(aliases, dict) and all(type(number) is int for number in aliases.values())):
            raise Damaged("it has no aliases")
        if not (isinstance(log, list) and all(isinstance(each, dict) and "action" in each for each in log)):
            raise Damaged("it has no log")
    except (OSError, Damaged, KeyError) as error:
        raise broken(folder / STATE, error) from error
    return {"aliases": {str(name): number for name, number in aliases.items()}, "log": log}


@contextmanager
def changing(folder: Path) -> Iterator[dict[str, Any]]:
    """The state, which is written back in one step at the end, while no other process writes.

    Raises:
        CheckpointError: It was changed, or cannot be read.
        RunError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)
        lock = FolderLock(folder)
        lock.acquire()
        try:
            remove_left_overs(folder)
            for path in folder.glob(f"{WRITING}*"):  # of a process that was killed
                remove(path)
            state = read_state(folder)
            yield state
            write_atomically(folder / STATE, sealed(state))
        finally:
            lock.release()
    except OSError as error:
        raise RunError(f"'{folder}' cannot be written: {reason(error)}.", "Choose another --registry.") from error


def add_to_log(state: dict[str, Any], action: str, **more: Any) -> None:
    """Logs an action, at this time."""
    state["log"].append({"time": now(), "action": action, **more})
