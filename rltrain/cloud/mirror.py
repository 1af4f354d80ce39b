"""Keeps a copy of run folders in a place that is no file system of its own, such as a mounted bucket.

There a folder cannot be renamed in a step, which a checkpoint needs. So the run is written on a disk, and every file of
it is copied as soon as it is there. A checkpoint that was copied in part is found by its checksums and passed over.
"""

from __future__ import annotations

import os
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from rltrain.storage.files import MIB, is_gone, open_file, reason

CHUNK = 8 * MIB


def files_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the files in a folder, by their names in it; links and unfinished files are left out.

    Raises:
        OSError: A folder cannot be read, rather than having gone meanwhile.
    """

    def failed(error: OSError) -> None:
        if not is_gone(error):
            raise error

    found = {}
    for place, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in sorted(Path(place) / name for name in names if not name.startswith(".")):
            try:
                status = path.lstat()
            except OSError as error:
                failed(error)
                continue
            if stat.S_ISREG(status.st_mode):
                found[path.relative_to(folder).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found


def copy(source: Path, target: Path) -> None:
    """Copies a regular file.

    Raises:
        OSError: It cannot be read or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_file(source) as reading, target.open("wb") as writing:
        while part := reading.read(CHUNK):
            writing.write(part)


def bring_back(copied: Path, folder: Path) -> int:
    """Copies what is in the copy and not in the folder, at the start; returns how many files.

    Raises:
        OSError: One cannot be copied.
    """
    here = files_in(folder) if folder.is_dir() else {}
    missing = [name for name in (files_in(copied) if copied.is_dir() else {}) if name not in here]
    for name in missing:
        copy(copied / name, folder / name)
    return len(missing)


class Mirror:
    """Copies what is new in a folder, every few seconds while it is entered and once more at its end.

    Args:
        folder: The folder.
        copied: Where the copies go.
        seconds: Between two looks.
    """

    def __init__(self, folder: Path, copied: Path, seconds: float = 20.0) -> None:
        self.folder, self.copied, self.seconds = folder, copied, seconds
        sizes = {name: size for name, (size, _) in files_in(copied).items()} if copied.is_dir() else {}
        here = files_in(folder) if folder.is_dir() else {}
        self._known = {name: status for name, status in here.items() if sizes.get(name) == status[0]}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def _keep(self) -> None:
        while not self._over.wait(self.seconds):
            self.look()

    def look(self) -> None:
        """Copies what is new, and removes copies of what has gone. What fails is tried again at the next look.

        Where the whole folder has gone, or cannot be read, all copies stay.
        """
        try:
            now = files_in(self.folder) if self.folder.is_dir() else None
        except OSError as error:
            now = None
            warnings.warn(f"'{error.filename}' is not copied to '{self.copied}': {reason(error)}.", stacklevel=2)
        if now is None:
            return
        for name, status in now.items():
            if self._known.get(name) != status and self._tried(copy, self.folder / name, self.copied / name):
                self._known[name] = status
        for name in [name for name in self._known if name not in now]:
            if self._tried(_remove, self.folder / name, self.copied / name):
                del self._known[name]

    def _tried(self, what: Callable[[Path, Path], None], source: Path, target: Path) -> bool:
        """Whether it could be done; warns if not, unless the file has gone meanwhile."""
        try:
            what(source, target)
        except FileNotFoundError:
            return False
        except OSError as error:
            warnings.warn(f"'{target}' is not as '{source}' is: {reason(error)}.", stacklevel=3)
            return False
        return True


def _remove(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
