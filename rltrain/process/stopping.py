"""Whether a signal has asked this process to stop: whatever takes long checks here, and leaves.

The handlers are set by :mod:`rltrain.training.signals` while a run trains.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

from rltrain.errors import RLTrainError

BREAK: Any = getattr(signal, "SIGURG", None)
"""The signal by which a thread of this process wakes the main thread. Who does not handle it does not notice it."""

_asked: int | None = None
_inside: Callable[[], object] | None = None  # where the main thread is in code that does not check
_stuck_at: object = None  # where it is to be left


class Stopped(RLTrainError):
    """A signal asked for the end of what was being done; a run that trains saves after it."""

    def __init__(self, number: int) -> None:
        super().__init__("It was interrupted.")
        self.exit_code = 128 + number


def ask(number: int | None) -> None:
    """Asks this process to stop because of a signal; None takes it back."""
    global _asked
    _asked = number


def asked() -> int | None:
    """The signal that asked this process to stop, if there was one."""
    return _asked


class inside:
    """Says that the thread is in code of the user's that does not check, such as an environment.

    Args:
        where: Gives something that changes when that code gets on.
    """

    def __init__(self, where: Callable[[], object]) -> None:
        self.where = where

    def __enter__(self) -> None:
        global _inside
        _inside = self.where

    def __exit__(self, *_: object) -> None:
        global _inside
        _inside = None


def mark() -> object:
    """Where the main thread is in code of the user's; None if it is in none."""
    where = _inside
    return None if where is None else (where, where())


def break_off(at: object) -> None:
    """Lets the main thread leave code of the user's that does not get on; called by another thread.

    It leaves by :class:`Stopped`, which is raised wherever the main thread is: also in a sleep, and while it waits for
    a socket or a process. It cannot be raised in code of C that never returns to Python.

    Args:
        at: What :func:`mark` gave; nothing happens where it gives something else by now.
    """
    global _stuck_at
    _stuck_at = at
    if BREAK is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, BREAK)


def on_break(number: int, frame: object) -> None:
    """Handles :data:`BREAK` in the main thread.

    Raises:
        Stopped: It is where it was.
    """
    if _asked is not None and _stuck_at is not None and mark() == _stuck_at:
        raise Stopped(_asked)


def check() -> None:
    """Leaves if a signal has asked for it.

    Raises:
        Stopped: It has.
    """
    if _asked is not None:
        raise Stopped(_asked)
