"""What a command that writes is, for rows that break it off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from tests.torture.commands import Said, command


@dataclass(frozen=True)
class Work:
    """A command that writes.

    Attributes:
        line: The command line, in a folder that :func:`~tests.torture.works.place` made.
        left: From that folder to what identifies what it made, None if that is not there; raises an AssertionError or
            an error of ours if it is there and not whole.
    """

    line: str
    left: Callable[[Path], object]

    def run(self, folder: Path) -> Said:
        """Runs it in this process."""
        with chdir(folder):
            return command(*self.line.split())
