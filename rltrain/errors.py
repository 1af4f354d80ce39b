"""The errors a user can cause: each says what is wrong and what to do about it.

The command line prints ``cause`` and ``fix`` on one line each and exits with ``exit_code``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RLTrainError(Exception):
    """An error that the user can fix.

    Args:
        cause: One line: what is wrong, naming the value.
        fix: One line: what to do. May be empty where there is nothing to advise.
    """

    exit_code = 3

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(f"{cause} {fix}".strip())
        self.cause = cause
        self.fix = fix


class ConfigError(RLTrainError):
    """Bad usage or a bad configuration; nothing was created."""

    exit_code = 2


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


def printable(text: str) -> str:
    """Text with its control characters written out: a name in a file must not give orders to a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A fix line that names the nearest known word, or ``otherwise`` where none is near."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f"Did you mean '{by_lower[near[0]]}'?" if near else otherwise
