"""Sessions: the recurrent states of episodes that are played through the server."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rltrain.export.signature import Signature


class NoRoom(Exception):
    """As many sessions are open as may be."""


@dataclass
class Session:
    """An episode: the state before its next observation, when it was last used, and its name in a log."""

    state: dict[str, np.ndarray]
    start: bool
    used: float
    busy: bool = False
    episode: str | None = None


class Sessions:
    """The open sessions, the one used longest ago first.

    Args:
        signature: The inputs of the policy.
        most: Sessions that may be open.
        seconds: After so many without a request a session is closed.
        clock: The time in seconds.
    """

    def __init__(
        self, signature: Signature, *, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.signature, self.most, self.seconds, self._clock = signature, most, seconds, clock
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        self._expire()
        return len(self._open)

    def open(self) -> str:
        """A new session at the start of an episode; returns its name, which cannot be guessed.

        Raises:
            NoRoom: There are too many.
        """
        self._expire()
        if len(self._open) >= self.most:
            raise NoRoom
        name = secrets.token_urlsafe(16)
        state = {array.name: array.zeros(1) for array in self.signature.state}
        self._open[name] = Session(state, True, self._clock())
        return name

    def find(self, name: str) -> Session | None:
        """The session of a name, now used last; None if there is none, or no longer."""
        self._expire()
        session = self._open.pop(name, None)
        if session is not None:
            session.used = self._clock()
            self._open[name] = session
        return session

    def close(self, name: str) -> Session | None:
        """Closes a session, and returns it if there was one."""
        return self._open.pop(name, None)

    def _expire(self) -> None:
        now = self._clock()
        for name, session in list(self._open.items()):
            if now - session.used < self.seconds:
                break
            if not session.busy:
                del self._open[name]
