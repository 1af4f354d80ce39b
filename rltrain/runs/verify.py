"""Finds out whether a checkpoint is whole, and names the file that is not."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.runs.layout import (
    MANIFEST,
    POLICY,
    PREFIX,
    STATE,
    TRAINING,
    cannot_be_read,
    list_checkpoints,
    number_after,
)
from rltrain.storage.digests import unreadable_in_time
from rltrain.storage.files import Damaged, check_folder, is_gone, may_be_whole, open_file, read_text, reason
from rltrain.storage.records import unsealed

FORMATS = (1, 2, 3)
"""The formats that are read. 1 had the tensors that are learned besides the actor among the policy's; 2 no segments."""


def newest_good(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Yields checkpoints from the newest back, each with its fault, and ends with the first intact one."""
    for path in reversed(list_checkpoints(folder)):
        fault = find_fault(path)
        yield path, fault
        if fault is None:
            return


def find_fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None if it is intact.

    Raises:
        CheckpointError: It may be whole, but cannot be read here and now: for lack of permission, for instance.
    """
    try:
        check_folder(path)
        manifest, unchanged = unsealed(read_text(path / MANIFEST))
        files = {str(name): (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
    except OSError as error:
        return _fault_of(path / MANIFEST, error)
    except (Damaged, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} cannot be read"
    if manifest.get("format") not in FORMATS:
        known = ", ".join(map(str, FORMATS))
        return f"{MANIFEST} is of the format {manifest.get('format')}, this version reads {known}"
    if lost := next((name for name in (POLICY, TRAINING, STATE) if name not in files), None):
        return f"{MANIFEST} does not list {lost}"
    if not unchanged:
        return f"{MANIFEST} was changed: its checksum differs"
    if odd := next((name for name in files if not re.fullmatch(r"[\w.-]*\w", name, re.ASCII)), None):
        return f"{MANIFEST} lists {odd!r}, which is no file of a checkpoint"
    step = number_after(PREFIX, path.name)
    if manifest.get("step", step) != step:
        return f"{MANIFEST} is of step {manifest['step']}"
    if (fault := unreadable_in_time(path, files)) is not None:
        return fault
    faults = [_fault_in_file(path / name, *expected) for name, expected in files.items()]
    if all((fault is not None and "instead of" in fault) or "differs" in str(fault) for fault in faults):
        return f"{MANIFEST} does not belong to the files beside it: the checksums of all of them differ"
    return next((fault for fault in faults if fault is not None), None)


def _fault_in_file(path: Path, size: int, digest: str) -> str | None:
    try:
        with open_file(path) as file:
            status = os.fstat(file.fileno())
            if status.st_size != size:
                return f"{path.name} has {status.st_size} bytes instead of {size}"
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                return f"{path.name} was changed: its checksum differs"
    except OSError as error:
        return _fault_of(path, error)
    return None


def _fault_of(path: Path, error: OSError) -> str:
    """The fault of a file that cannot be read, unless it may be whole."""
    if may_be_whole(error):
        raise cannot_be_read(path, error) from error
    return f"{path.name} is missing" if is_gone(error) else f"{path.name} cannot be read: {reason(error)}"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint that was found to be intact.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return unsealed(read_text(path / MANIFEST))[0]
    except (OSError, Damaged) as error:
        raise cannot_be_read(path / MANIFEST, error) from error


def newest_facts(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint that says anything says about its run; older checkpoints say nothing.

    Raises:
        CheckpointError: The folder is there and cannot be read.
    """
    for path in reversed(list_checkpoints(folder)):
        with suppress(OSError, Damaged):
            facts = unsealed(read_text(path / MANIFEST))[0].get("run")
            if isinstance(facts, dict) and facts:
                return facts
    return {}
