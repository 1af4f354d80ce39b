"""The file of a study: a line of JSON for each thing that was done, to which several processes append."""

from __future__ import annotations

import warnings
from pathlib import Path

import filelock

from rltrain.storage.files import MIB, Damaged, exists, keep_damaged, open_file, read_bytes, write_atomically

LIMIT = 256 * MIB
"""Bytes of a journal that is read."""
LOCK_SECONDS = 60.0
"""How long a process waits for others that write."""


class JournalLock:
    """Keeps others from writing meanwhile, as Optuna asks for it. It ends with the process that has it.

    Args:
        journal: The journal.
    """

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(f"{journal.name}.lock")
        self._lock = filelock.FileLock(str(self.path))

    def acquire(self) -> bool:
        """Waits for the lock.

        Raises:
            OSError: It cannot be had; a timeout is one.
        """
        if exists(self.path):
            open_file(self.path).close()  # the lock would empty the file behind a link
        self._lock.acquire(timeout=LOCK_SECONDS)
        return True

    def release(self) -> None:
        """Lets others write."""
        self._lock.release()


def mend_journal(path: Path) -> None:
    """Takes off a last line that was never finished, which would spoil the next one; a copy of the file is kept.

    A process that is killed while it writes leaves such a line, and so does a disk that is full.

    Raises:
        OSError: It is a link or another kind of file, or cannot be read or written.
        Damaged: It is larger than any study.
    """
    if not exists(path):
        return
    lock = JournalLock(path)
    lock.acquire()
    try:
        with open_file(path) as file:
            size = file.seek(0, 2)
            if size > LIMIT:
                raise Damaged(f"it has more than {LIMIT:,} bytes")
            file.seek(max(0, size - 1))
            if file.read(1) in (b"", b"\n"):
                return
        content = read_bytes(path, LIMIT)
        copy = keep_damaged(path)
        write_atomically(path, content[: content.rfind(b"\n") + 1])
    finally:
        lock.release()
    warnings.warn(
        f"The last line of '{path}' was never finished, and is left out; the file as it was is '{copy.name}'.",
        stacklevel=2,
    )
