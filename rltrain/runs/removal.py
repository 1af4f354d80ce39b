"""Removes run folders, and nothing else."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from rltrain.errors import CheckpointError, RunError
from rltrain.runs.config_file import CONFIG
from rltrain.runs.folder import RunFolder
from rltrain.runs.lock import FolderLock
from rltrain.runs.metadata import Metadata
from rltrain.runs.places import find_runs
from rltrain.storage.files import reason, remove

_LEFT = re.compile(r"\.removed-[0-9a-f]{16}")


def check_removable(path: Path) -> None:
    """Checks that a folder is a run folder for certain, and that nobody trains it.

    It has a ``config.yaml``, metadata with all that rltrain records, no other runs inside, and is no link.

    Raises:
        CheckpointError: It is not for certain.
        RunError: Another process has it locked.
    """
    by_hand = "Remove it by other means if it may go."
    if path.is_symlink():
        raise CheckpointError(f"'{path}' is a symbolic link.", "Name the folder that it leads to.")
    folder, checkpoint = RunFolder.open(path)
    if checkpoint is not None:
        raise CheckpointError(f"'{path}' is a checkpoint of a run, not a run.", f"Name '{folder.path}'.")
    if (path / CONFIG).is_symlink() or not (path / CONFIG).is_file():
        raise CheckpointError(f"'{path}' is no run folder for certain: its {CONFIG} is no file.", by_hand)
    try:
        Metadata(path).read()
    except CheckpointError as error:
        raise CheckpointError(f"'{path}' is no run folder for certain. {error.cause}", by_hand) from error
    inside = [run for each in sorted(path.iterdir()) if each.is_dir() and not each.is_symlink() for run in _runs(each)]
    if inside:
        raise CheckpointError(f"There is another run in '{path}': '{inside[0]}'.", "Move or remove that one first.")
    if FolderLock(path).is_held():
        raise RunError(f"'{path}' is in use by another process.", "Wait for it, or stop it.")


def remove_run(path: Path) -> None:
    """Removes a run folder. Links in it are removed, and what they lead to stays.

    It is renamed first, so that no part of it is ever taken for a run. What is left beside it of runs whose removal was
    killed is removed too.

    Raises:
        CheckpointError: See :func:`check_removable`.
        RunError: Another process has it locked, or it cannot be removed.
    """
    check_removable(path)
    lock = FolderLock(path)
    lock.acquire()
    hidden = path.absolute().with_name(f".removed-{secrets.token_hex(8)}")
    try:
        os.rename(path, hidden)
        for other in list(hidden.parent.iterdir()):
            if other != hidden and _LEFT.fullmatch(other.name):
                remove(other)
        with suppress(FileNotFoundError):  # another process removes it as well, as a left-over
            shutil.rmtree(hidden)
    except OSError as error:
        left = hidden if hidden.exists() else path
        raise RunError(
            f"'{left}' cannot be removed: {reason(error)}.", "See that you may write there, and remove the rest."
        ) from error
    finally:
        lock.release()


def size_of(path: Path) -> tuple[int, int]:
    """The number of files in a folder, and their bytes; links count as files and are not followed.

    What a process removes meanwhile does not count.
    """
    number = size = 0
    for place, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_size
                number += 1
    return number, size


def _runs(folder: Path) -> list[Path]:
    """The runs in a part of a run folder; its own checkpoints and films are none."""
    try:
        return find_runs(folder)
    except CheckpointError as error:
        raise CheckpointError(f"'{folder}' cannot be looked into. {error.cause}", error.fix) from error
