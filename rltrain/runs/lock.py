"""The lock on a run folder, which also notices when the folder moves."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import filelock

from rltrain.errors import RunError
from rltrain.storage.files import exists, is_gone, open_file, reason

LOCK = ".lock"


class FolderMoved(RunError):
    """The run folder is not where it was when the process locked it.

    Attributes:
        place: Where it is now, if that is known.
    """

    place: Path | None = None


class FolderLock:
    """Keeps other processes from writing in a folder, until the process ends.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = filelock.FileLock(str(path / LOCK))
        self._handle: int | None = None  # of the locked folder, which stays the same where the folder moves

    def acquire(self) -> None:
        """Locks the folder.

        Raises:
            RunError: Another process has it, or it cannot be locked.
        """
        try:
            if exists(self.path / LOCK):
                open_file(self.path / LOCK).close()  # the lock would empty the file behind a link
            self._lock.acquire(timeout=0)
            if os.name == "posix" and self._handle is None:
                self._handle = os.open(self.path, os.O_RDONLY)
        except filelock.Timeout:
            raise RunError(f"'{self.path}' is in use by another process.", "Wait for it, or stop it.") from None
        except OSError as error:
            raise RunError(
                f"'{self.path}' cannot be locked: {reason(error)} ({LOCK}).", "See that you may write there."
            ) from error

    def release(self) -> None:
        """Unlocks the folder."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        self._lock.release()

    def is_held(self) -> bool:
        """Whether any process has the folder locked, as far as can be seen; nothing is written for it.

        On Windows it is not seen.
        """
        if os.name != "posix":
            return False
        import fcntl

        with suppress(OSError), open_file(self.path / LOCK) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            fcntl.flock(file, fcntl.LOCK_UN)
        return False

    def check_place(self) -> None:
        """Checks that the folder, if it is locked, is still where it was.

        Raises:
            FolderMoved: It is not.
        """
        if self._handle is None:
            return
        locked = os.fstat(self._handle)
        try:
            if os.path.samestat(self.path.stat(), locked):
                return
        except OSError as error:
            if not is_gone(error):
                return
        place = None
        with suppress(OSError):  # Linux tells where it is now
            now = Path(os.readlink(f"/proc/self/fd/{self._handle}"))
            place = now if os.path.samestat(now.stat(), locked) else None
        what = f"moved to '{place}'" if place else "moved or removed"
        moved = FolderMoved(f"The run folder '{self.path}' was {what} while it trained.", "Leave it in its place.")
        moved.place = place
        raise moved
