"""Reads and writes files that somebody else may have made, on disks that may be full or failing.

Only regular files are read, never through a symbolic link, and never more bytes than allowed. Every write
goes to a new file with a random name, beside the one that it replaces in a single step, so that nothing that already
lies in a folder decides where it goes. What the system refuses is an :class:`OSError`; content that is not what it
should be is :class:`Damaged`.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import shutil
import stat
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

MIB = 2**20
TEXT_LIMIT = 16 * MIB
"""Bytes of a text file that is read whole, unless another limit is given."""
PIPE_SECONDS = 10.0
"""For how long a pipe that the user names may take to be written."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LEFT_OVER = re.compile(r"\.[0-9a-f]{16}\.tmp")
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_GONE = (errno.ENOENT, errno.ENOTDIR)
_LASTING = (*_GONE, errno.EIO, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG)


class Damaged(ValueError):
    """The content of a file is not what it should be; the text says what is wrong with it."""


def reason(error: BaseException) -> str:
    """Why something failed, in a few words and without the path."""
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


def is_gone(error: BaseException) -> bool:
    """Whether an error says that there is no such file, rather than that it cannot be read."""
    return isinstance(error, OSError) and error.errno in _GONE


def may_be_whole(error: BaseException) -> bool:
    """Whether an error keeps a file from being read that may be whole: permissions, too many open files."""
    return isinstance(error, OSError) and error.errno not in _LASTING


def exists(path: Path) -> bool:
    """Whether there is anything at ``path``, a broken link included.

    Raises:
        OSError: That cannot be seen.
    """
    try:
        path.lstat()
    except OSError as error:
        if is_gone(error):
            return False
        raise
    return True


def check_folder(path: Path) -> None:
    """Checks that a folder, if there is one, is a folder itself and no link to one.

    Raises:
        OSError: It is something else, or cannot be seen.
    """
    if exists(path):
        _check_kind(path, path.lstat(), stat.S_IFDIR)


def numbered(folder: Path) -> list[Path]:
    """The entries of a folder whose names are plain digits, by their numbers; none if there is no folder.

    Raises:
        OSError: It is a link or something else, or cannot be read.
    """
    try:
        check_folder(folder)
        names = [name for name in os.listdir(folder) if _NUMBER.fullmatch(name)]
    except OSError as error:
        if is_gone(error):
            return []
        raise
    return [folder / name for name in sorted(names, key=lambda name: (int(name), name))]


def open_file(path: Path) -> BufferedReader:
    """Opens a regular file for reading; anything else, such as a link, a device or a pipe, is not even opened.

    Raises:
        OSError: It is something else, or cannot be read.
    """
    _check_kind(path, path.lstat(), stat.S_IFREG)
    handle = os.open(path, _READ)
    try:
        _check_kind(path, os.fstat(handle), stat.S_IFREG)
    except BaseException:
        os.close(handle)
        raise
    return open(handle, "rb")


def _check_kind(path: Path, status: os.stat_result, wanted: int) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != wanted:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'of no known kind')}, not {_KINDS[wanted]}", str(path))


def read_bytes(path: Path, limit: int = TEXT_LIMIT) -> bytes:
    """The content of a file.

    Raises:
        OSError: It cannot be read.
        Damaged: It is longer than ``limit`` bytes.
    """
    with open_file(path) as file:
        content = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    if content is None or len(content) > limit:
        raise Damaged(f"it has more than {limit:,} bytes")
    return content


def read_given(path: Path, limit: int = TEXT_LIMIT, seconds: float = PIPE_SECONDS) -> str:
    """The text in a file that the user names: also behind a link, or a pipe such as a shell's ``<(command)``.

    Args:
        path: The file.
        limit: The most bytes.
        seconds: For how long to wait for the end of a pipe.

    Raises:
        OSError: It is a folder or a device, cannot be read, or a pipe does not end in time.
        Damaged: It is longer than ``limit`` bytes, or is not text.
    """
    handle = os.open(path, _READ & ~getattr(os, "O_NOFOLLOW", 0))
    with open(handle, "rb", buffering=0) as file:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISFIFO(status.st_mode):
            content = _read_pipe(handle, path, limit, time.monotonic() + seconds)
        else:
            _check_kind(path, status, stat.S_IFREG)
            content = file.read(limit + 1) or b""
    if len(content) > limit:
        raise Damaged(f"it has more than {limit:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Damaged("it is not text") from error


def _read_pipe(handle: int, path: Path, limit: int, deadline: float) -> bytes:
    """What comes through a pipe until its end, or until it is more than ``limit`` bytes.

    Raises:
        OSError: It has not ended by ``deadline``.
    """
    content, poll = b"", select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    while len(content) <= limit:
        events = poll.poll(max(0.0, deadline - time.monotonic()) * 1e3)
        if not events:
            raise OSError(errno.ETIMEDOUT, "it is a pipe, and nothing more came through it", str(path))
        part = os.read(handle, limit + 1 - len(content))
        if not part:
            break
        content += part
    return content


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str:
    """The text in a file.

    Raises:
        OSError: It cannot be read.
        Damaged: It is longer than ``limit`` bytes, or is not text.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise Damaged("it is not text") from error


def open_new(path: Path, mode: int = 0o666) -> int:
    """Makes a file that is not there yet, and gives its descriptor for writing.

    Args:
        path: The file.
        mode: Its permissions, from which the umask takes some away.

    Raises:
        OSError: It cannot be made, or there is something at ``path``, a link included.
    """
    return os.open(path, _NEW, mode)


def write_new(path: Path, content: bytes) -> None:
    """Writes a file that is not there yet, and waits until the disk has it.

    Raises:
        OSError: It cannot be written, and nothing of it is left; or there is one.
    """
    handle = open_new(path)
    try:
        _write_all(handle, content)
        os.fsync(handle)
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    finally:
        os.close(handle)


def write_end(path: Path, handle: int, start: int, content: bytes) -> int:
    """Writes the last part of an open file, from byte ``start`` on, in place of what was there.

    Returns:
        The byte after it.

    Raises:
        OSError: It cannot be written, and the file ends at ``start``.
    """
    end = start + len(content)
    try:
        os.lseek(handle, start, os.SEEK_SET)
        _write_all(handle, content)
        os.ftruncate(handle, end)
    except OSError as error:
        error.filename = str(path)
        with suppress(OSError):
            os.ftruncate(handle, start)
        raise
    return end


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step, or makes it. A link is replaced, not followed.

    Raises:
        OSError: It cannot be written; the old one is as it was.
    """
    temporary = beside(path)
    try:
        write_new(temporary, content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # rather than the temporary one
        raise


def link(path: Path, other: Path) -> None:
    """Gives a file a second name.

    Raises:
        OSError: The system or the file system has no such links, or it fails.
    """
    make = getattr(os, "link", None)
    if make is None:
        raise OSError(errno.ENOTSUP, "there are no hard links here", str(path))
    if make in os.supports_follow_symlinks:  # Windows does not
        make(path, other, follow_symlinks=False)
    else:
        make(path, other)


def keep_damaged(path: Path) -> Path:
    """Keeps a file as it is under another name, before it is replaced.

    Returns:
        That name: ``damaged_1_progress.csv``. TensorBoard takes none of them for an event file.

    Raises:
        OSError: It cannot be kept.
    """
    name, number = path.name.replace("tfevents.", ""), 1
    while exists(copy := path.with_name(f"damaged_{number}_{name}")):
        number += 1
    try:
        link(path, copy)
    except OSError:
        handle = open_new(copy)
        with open_file(path) as source, os.fdopen(handle, "wb") as target:
            shutil.copyfileobj(source, target)
    return copy


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that is in it, as far as possible; links are not followed."""
    with suppress(OSError):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def remove_left_overs(folder: Path) -> None:
    """Removes the temporary files that a killed process left in a folder."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            if _LEFT_OVER.match(path.name):
                remove(path)


def sync_directory(path: Path) -> None:
    """Waits until the disk knows the names in a folder.

    Raises:
        OSError: It fails.
    """
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(handle)


def _write_all(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def beside(path: Path) -> Path:
    """A new name in the same folder, and none that TensorBoard takes for an event file."""
    return path.with_name(f".{secrets.token_hex(8)}.tmp{path.suffix}")
