"""Which environment each process is stepping, in memory that all of them see, and a watch on those that hang."""

from __future__ import annotations

import ctypes
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HANGS = 5.0
"""Seconds that an environment may take for a step before a warning names it."""
LOOKS = 0.5  # seconds between two looks

IDLE = -1


def make_places(processes: int) -> Any:
    """Shared memory with a place for each process; see :class:`Progress`."""
    from multiprocessing.sharedctypes import RawArray

    places = RawArray(ctypes.c_int64, processes)
    places[:] = [IDLE] * processes
    return places


class Progress:
    """What a process writes of its own progress: a number that grows, whose remainder is the row of an environment.

    Args:
        places: The memory.
        own: The place of this process.
        size: Number of its environments.
    """

    def __init__(self, places: Any, own: int, size: int) -> None:
        self.places, self.own, self.size = places, own, max(size, 1)
        self._turn = 0

    def turn(self) -> int:
        """Begins a turn through the environments; ``places[own] = this + i`` says that environment ``i`` is next."""
        self._turn += self.size
        return self._turn

    def rest(self) -> None:
        """Says that no environment is being stepped."""
        self.places[self.own] = IDLE


class Hanging:
    """Watches places for environments that take too long.

    One that took longer than a warning waits for and came back is slow, and does not hang: from then on a warning waits
    for twice as long.

    Args:
        places: The memory.
        rows: The rows of environments of each process, by place.
        name: The environment's id, for the warning.
    """

    def __init__(self, places: Any, rows: Sequence[range], name: str) -> None:
        self.places, self.rows, self.name = places, list(rows), name
        self._seen = [IDLE] * len(self.rows)
        self._since = [time.monotonic()] * len(self.rows)
        self._told = [False] * len(self.rows)
        self._patience: float | None = None  # seconds, once an environment has proved to be slow

    def look(self) -> list[tuple[int, int, float]]:
        """The environments being stepped: the process, the row, and for how many seconds it was seen there."""
        now, found = time.monotonic(), []
        for k, (rows, place) in enumerate(zip(self.rows, list(self.places), strict=True)):
            if place != self._seen[k]:
                if self._told[k]:
                    self._patience = max(self._patience or 0.0, 2 * (now - self._since[k]))
                self._seen[k], self._since[k], self._told[k] = place, now, False
            elif place != IDLE and len(rows):
                found.append((k, rows[place % len(rows)], now - self._since[k]))
        return found

    def warn(self, found: Sequence[tuple[int, int, float]]) -> None:
        """Warns once of each environment that takes too long."""
        for k, row, seconds in found:
            if seconds >= (self._patience or HANGS) and not self._told[k]:
                self._told[k] = True
                warnings.warn(
                    f"Environment {row} of '{self.name}' has not answered for {seconds:.0f} s. Ctrl-C twice leaves; "
                    "--env.step-timeout SECONDS makes it an error.",
                    stacklevel=2,
                )


class Guard:
    """A thread that warns of hanging environments until it is stopped or its owner is gone.

    Args:
        owner: Who steps the environments. If it has a method ``on_hang``, that is told of every environment that takes
            longer than a look: the place, the row and the seconds.
        hanging: What it looks at.
        looks: Seconds between two looks.
    """

    def __init__(self, owner: object, hanging: Hanging, looks: float = LOOKS) -> None:
        self._stopped = threading.Event()
        threading.Thread(
            target=_guard, args=(weakref.ref(owner), self._stopped, hanging, looks), daemon=True, name="rltrain-guard"
        ).start()

    def stop(self) -> None:
        """Ends the thread soon."""
        self._stopped.set()


def _guard(owner: weakref.ref, stopped: threading.Event, hanging: Hanging, looks: float) -> None:
    while not stopped.wait(looks) and owner() is not None:
        found = hanging.look()
        hanging.warn(found)
        if (on_hang := getattr(owner(), "on_hang", None)) is not None:
            for place, row, seconds in found:
                on_hang(place, row, seconds)
        on_hang = None  # a bound method would keep the owner alive


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Warns if one environment, the only one, does not answer inside."""
    places = make_places(1)
    places[0] = 0
    hanging = Hanging(places, [range(1)], name)
    guard = Guard(hanging, hanging)
    try:
        yield
    finally:
        guard.stop()
