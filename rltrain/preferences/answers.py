"""The answers that people gave: one line of JSON each, appended to a file and never changed.

A line is written in one piece and is on the disk before it counts, so a process that is killed loses none that it has
confirmed. Several processes may append to the same file. A line that is cut off or changed does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rltrain.errors import ConfigError, RunError
from rltrain.storage.files import MIB, Damaged, exists, open_file, reason

CHOICES = ("left", "right", "equal", "skip")
UNDO = "undo"
TARGETS = {"left": 1.0, "right": 0.0, "equal": 0.5}
"""What an answer says of the left clip; ``skip`` says nothing."""
LIMIT = 256 * MIB
LONGEST_NAME = 80


@dataclass(frozen=True)
class Answer:
    """What somebody said about a pair.

    Attributes:
        pair: The pair.
        choice: ``left``, ``right``, ``equal``, ``skip``; or ``undo``, which takes the labeller's last answer back.
        labeller: Who said it.
        time: When, in UTC, as ISO 8601.
        seconds: How long it took, if that is known.
    """

    pair: str
    choice: str
    labeller: str
    time: str = ""
    seconds: float | None = None


class Answers:
    """The file with the answers.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pair: str, choice: str, labeller: str, seconds: float | None = None) -> None:
        """Appends an answer, and returns when the disk has it.

        Raises:
            ConfigError: There is no such choice, or the labeller has no usable name.
            RunError: It cannot be written.
        """
        if choice not in (*CHOICES, UNDO):
            raise ConfigError(f"There is no answer '{choice}'.", f"It is one of: {', '.join(CHOICES)}.")
        check_labeller(labeller)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = asdict(Answer(pair, choice, labeller, now, None if seconds is None else round(float(seconds), 3)))
        self._append(json.dumps({**entry, "seal": _seal(entry)}) + "\n")

    def take(self, answers: Sequence[Answer]) -> int:
        """Adds answers from elsewhere that are not there yet, and returns how many that were."""
        there = {(each.pair, each.labeller): each.choice for each in self.current()}
        new = [each for each in answers if there.get((each.pair, each.labeller)) != each.choice]
        for each in new:
            self.add(each.pair, each.choice, each.labeller, each.seconds)
        return len(new)

    def _append(self, line: str) -> None:
        try:
            if exists(self.path):
                open_file(self.path).close()  # no link, and no device
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(self.path, flags, 0o666)
            try:
                end = os.lseek(handle, 0, os.SEEK_END)
                cut_off = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
                content = (("\n" if cut_off else "") + line).encode()
                if os.write(handle, content) != len(content):
                    raise OSError("the disk is full")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            fix = "Make room, or see that you may write there."
            raise RunError(f"'{self.path}' cannot be written: {reason(error)}.", fix) from error

    def lines(self) -> Iterator[Answer | None]:
        """All lines in order, taken-back ones included; None for one that is cut off or was changed.

        Raises:
            RunError: The file cannot be read.
        """
        try:
            if not exists(self.path):
                return
            with open_file(self.path) as file:
                if os.fstat(file.fileno()).st_size > LIMIT:
                    raise Damaged(f"it has more than {LIMIT:,} bytes")
                content = file.read(LIMIT)
        except (OSError, Damaged) as error:
            raise RunError(f"'{self.path}' cannot be read: {reason(error)}.", "Make it readable.") from error
        for line in content.split(b"\n"):
            if line:
                yield _parsed(line)

    def current(self) -> list[Answer]:
        """The answers that stand, in the order of their pairs' first answers: one for each pair and labeller."""
        stand: dict[tuple[str, str], Answer] = {}
        for answer in self.lines():
            if answer is None:
                continue
            key = answer.pair, answer.labeller
            if answer.choice == UNDO:
                stand.pop(key, None)
            else:
                stand[key] = answer
        return list(stand.values())

    @property
    def damaged(self) -> int:
        """How many lines do not count because they are cut off or were changed."""
        return sum(answer is None for answer in self.lines())

    def checksum(self) -> str:
        """SHA-256 over what stands, whatever the order and time in which it was said."""
        return checksum(self.current())


def checksum(answers: list[Answer]) -> str:
    """SHA-256 over pairs, labellers and choices, in no particular order."""
    said = sorted((each.pair, each.labeller, each.choice) for each in answers)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def check_labeller(name: str) -> None:
    """Checks the name of a labeller.

    Raises:
        ConfigError: It is empty, too long, or has characters that do not print.
    """
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"'{name[:100]}' is no name of a labeller.", f"Give up to {LONGEST_NAME} letters or digits.")


def _seal(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


def _parsed(line: bytes) -> Answer | None:
    try:
        entry = json.loads(line)
        seal = entry.pop("seal")
        answer = Answer(**entry)
        texts = (answer.pair, answer.choice, answer.labeller, answer.time)
        whole = seal == _seal(entry) and all(isinstance(text, str) for text in texts)
        return answer if whole and answer.choice in (*CHOICES, UNDO) else None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
