"""The errors a user can cause: each says what is wrong and what to do about it.

The command line prints ``cause`` and ``fix`` on one line each and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable

ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\[\d{1,2}(?:;\d{1,3})*m")
"""Colours and other commands to a terminal; a colour also where something has taken its first byte away."""


def plain(text: str) -> str:
    """A text without commands to a terminal: colours are left out, other control characters written out."""
    text = ESCAPES.sub("", text)
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class RLTrainError(Exception):
    """An error that the user can fix.

    Args:
        cause: One line: what is wrong, naming the value.
        fix: One line: what to do. May be empty where there is nothing to advise.
    """

    exit_code = 3

    def __init__(self, cause: str, fix: str = "") -> None:
        cause, fix = plain(cause), plain(fix)
        super().__init__(f"{cause} {fix}".strip())
        self.cause = cause
        self.fix = fix


class ConfigError(RLTrainError):
    """Bad usage or a bad configuration; nothing was created."""

    exit_code = 2


class InputError(ConfigError, ValueError):
    """A policy was given something that it cannot act on."""


class RunError(RLTrainError):
    """The run itself failed."""

    exit_code = 3


class RankFailed(RLTrainError):
    """Another rank of this run failed and has said why; this one ends with it, and with its exit code."""

    def __init__(self, cause: str, *, exit_code: int) -> None:
        super().__init__(cause)
        self.exit_code = exit_code


class CheckpointError(RLTrainError):
    """A run folder or checkpoint is missing, damaged or does not fit."""

    exit_code = 4


class DatasetError(RLTrainError):
    """A dataset is missing, damaged or does not fit."""

    exit_code = 4


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A fix line that names the nearest known word, or ``otherwise`` where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean '{by_lower[near[0]]}'?" if near else otherwise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: that of the machine, or of an accelerator."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


DOING, TRACEBACK = "While ", "The traceback is in "


def note(error: BaseException, doing: str, traceback: str) -> None:
    """Adds to an exception what was being done, such as ``training``, and the file with its traceback."""
    error.add_note(f"{DOING}{doing}.")
    error.add_note(f"{TRACEBACK}{traceback}")


def notes_of(error: BaseException) -> tuple[str, str]:
    """What :func:`note` added: what was being done, after ``while``, and the file; empty where nothing was added."""
    found = getattr(error, "__notes__", ())
    doing = next((text.removeprefix(DOING).rstrip(".") for text in found if text.startswith(DOING)), "")
    where = next((text.removeprefix(TRACEBACK) for text in found if text.startswith(TRACEBACK)), "")
    return f"while {doing}" if doing else "", where


def ended_by(error: SystemExit) -> RunError:
    """The error for a ``sys.exit()`` where nobody expects one, as inside an environment; says where it was called."""
    frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith("<frozen")]
    innermost = frames[-1:]  # exit() is in a frozen module, and raises there
    where = f" in line {innermost[0].lineno} of {innermost[0].filename}" if innermost else ""
    return RunError(
        f"The process was told to exit with {error.code!r}{where}.", "Raise an exception there instead of sys.exit()."
    )
