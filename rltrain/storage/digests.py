"""Checksums of files, as manifests hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.storage.files import open_file

LARGE = 2**30
"""Bytes of files from which on they must not be nearly nothing but holes; they are read in a second or two."""


def entry_of(path: Path) -> dict[str, Any]:
    """The entry of a regular file in a manifest: its ``bytes`` and its ``sha256``.

    Raises:
        OSError: It is a link or something else, or cannot be read.
    """
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def unreadable_in_time(folder: Path, names: Iterable[str]) -> str | None:
    """The fault of files that are far larger than the room they take, and would be read for hours; None if none is.

    Those are files of holes, and one file under several names.
    """
    seen: dict[tuple[int, int], str] = {}
    size = room = 0
    for name in names:
        with suppress(OSError):
            status = (folder / name).lstat()
            twin = seen.setdefault((status.st_dev, status.st_ino), name)
            if twin != name and status.st_ino:
                return f"{name} is the same file as {twin}"
            size, room = size + status.st_size, room + getattr(status, "st_blocks", status.st_size) * 512
            if size > LARGE and room * 64 < size:
                return f"{name} is nearly nothing but holes"
    return None
