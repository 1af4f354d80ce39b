"""Whether a signal has asked this process to stop: whatever takes long checks here, and leaves.

The handlers are set by :mod:`rltrain.training.signals` while a run trains.
"""

from __future__ import annotations

from rltrain.errors import RLTrainError

_asked: int | None = None


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


def check() -> None:
    """Leaves if a signal has asked for it.

    Raises:
        Stopped: It has.
    """
    if _asked is not None:
        raise Stopped(_asked)
