"""Files and folders that are made under another name, and get theirs when they are whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rltrain.process.early import on_leave
from rltrain.storage.files import beside, open_new, remove

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_unfinished: set[Path] = set()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file with the same ending that replaces ``path`` on success and is removed on failure.

    Raises:
        OSError: It cannot be made, or cannot replace the other.
    """
    temporary = beside(path)
    with unfinished(temporary):
        os.close(open_new(temporary))
        yield temporary
        os.replace(temporary, path)


@contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Removes what is at a path in the end, also if a signal ends this process at once: unless it was renamed by then.

    Args:
        path: A file or folder that nobody else makes.
    """
    _unfinished.add(path)
    try:
        yield
    finally:
        remove(path)
        _unfinished.discard(path)


@contextmanager
def making(path: Path, prefix: str = ".writing-") -> Iterator[Path]:
    """A new folder beside ``path``, which is to be filled and renamed to it; it is removed if it was not.

    What a killed process left of such a folder is removed first; that of a process which still writes is not.

    Raises:
        OSError: It cannot be made.
    """
    remove_abandoned(path, prefix)
    temporary = path.with_name(f"{prefix}{path.name}-{secrets.token_hex(4)}")
    with unfinished(temporary), ExitStack() as stack:
        temporary.mkdir(parents=True)
        if fcntl is not None:
            handle = os.open(temporary, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield temporary


def remove_abandoned(path: Path, prefix: str) -> None:
    """Removes the folders beside ``path`` that killed processes left, whose names begin with ``prefix`` and its name.

    Raises:
        OSError: The folder that it is in cannot be read.
    """
    if path.parent.is_dir():
        for other in list(path.parent.iterdir()):
            if other.name.startswith(f"{prefix}{path.name}-") and not _is_held(other):
                remove(other)


def _is_held(folder: Path) -> bool:
    """Whether a process is making a folder, as far as can be seen; on Windows it is not seen, and taken to be so."""
    if fcntl is None:
        return True
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _remove_unfinished() -> None:
    for path in list(_unfinished):
        remove(path)


on_leave.append(_remove_unfinished)
