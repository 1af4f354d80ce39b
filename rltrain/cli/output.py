"""Standard output is the verbs' own: what an environment or a C library prints goes to standard error."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rltrain.errors import RunError

_ours: TextIO | None = None
"""Where the verbs write while everything else is sent to standard error."""


def say(text: object) -> None:
    """Writes a line to standard output.

    Raises:
        RunError: It cannot be written, as on a full disk.
    """
    try:
        print(text, file=_ours or sys.stdout, flush=True)
    except BrokenPipeError:  # the reader has had enough
        raise
    except OSError as error:
        raise RunError(f"What is printed cannot be written: {error.strerror}.", "Print it somewhere else.") from error


def open_streams() -> None:
    """Puts the null device in the place of standard streams that are closed, so that no file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def columns() -> int:
    """How wide what is printed may be: as the terminal, from 60 to 120; 80 where there is none."""
    return min(max(shutil.get_terminal_size((80, 24)).columns, 60), 120)


def wrapped(text: str) -> str:
    """A text on as many lines as the terminal needs."""
    return beside("", text, 0)


def broken(text: str, width: int) -> str:
    """A text with its longer lines broken at a space or after a ``|``, which names of values are joined by."""
    lines: list[str] = []
    for whole in text.splitlines():
        line, indent = whole, " " * (len(whole) - len(whole.lstrip()) + 2)
        while len(line) > width:
            at = max(line.rfind(" ", len(indent), width + 1), line.rfind("|", len(indent), width) + 1)
            if at <= len(indent):
                break
            lines.append(line[:at].rstrip())
            line = indent + line[at:].lstrip()
        lines.append(line)
    return "\n".join(lines)


def beside(head: str, text: str, indent: int) -> str:
    """A text beside a head, from column ``indent`` on, on as many lines as the terminal needs."""
    lines = textwrap.wrap(" ".join(text.split()), columns() - indent, break_on_hyphens=False, break_long_words=False)
    first, *rest = lines or [""]
    if len(head) < indent - 1 or not head:
        below = rest
        top = f"{head:<{indent}}{first}".rstrip()
    else:
        top, below = head, [first, *rest]
    return "\n".join([top, *(f"{'':<{indent}}{line}".rstrip() for line in below if line)])


@contextmanager
def only_ours(*, to_the_end: bool = False) -> Iterator[None]:
    """Sends to standard error what is printed, by Python, C libraries and child processes, except by :func:`say`.

    Args:
        to_the_end: Whether it stays so when the block is left: what is printed while the process ends is not ours.
    """
    global _ours
    if _ours is not None:
        yield
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    python = sys.stdout
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there is no standard output, or no standard error
        yield
        return
    _ours = os.fdopen(os.dup(kept), "w", encoding=python.encoding, errors="replace") if _is_first(python) else python
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # its reader has gone
            _ours.flush()
        if not to_the_end:
            sys.stdout = python
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(kept, 1)
        if _ours is not python:
            with suppress(OSError, ValueError):
                _ours.close()
        _ours = None
        os.close(kept)


def _is_first(stream: TextIO) -> bool:
    """Whether a stream is the process's standard output itself, and not what a test or a notebook has put there."""
    try:
        return stream.fileno() == 1
    except (OSError, ValueError, AttributeError):
        return False


def terminal_width() -> int | None:
    """How wide the terminal is that :func:`say` writes to; None if it writes to a file or a pipe."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal():
        return int(given)
    try:
        return os.get_terminal_size((_ours or sys.stdout).fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None
