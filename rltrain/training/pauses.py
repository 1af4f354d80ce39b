"""The time that a run spends beside training: on evaluations, films and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["eval", "video", "save"]


class Pauses:
    """Seconds beside training, by kind, over all sessions; and in all, over this session.

    What happens within another pause, such as the checkpoint of the best evaluation, counts once, as its own kind.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._session = [0.0]  # shared by runs that train together: each of them waits for the pauses of all

    @property
    def session(self) -> float:
        """Seconds of this session, those of runs that train together included."""
        return self._session[0]

    def share(self, others: Pauses) -> None:
        """Counts this session's seconds together with those of another run."""
        self._session = others._session

    @contextmanager
    def of(self, kind: Kind) -> Iterator[None]:
        """Counts the time inside."""
        began, before = time.perf_counter(), self.session
        try:
            yield
        finally:
            took = time.perf_counter() - began - (self.session - before)
            self._session[0] += took
            self.seconds[kind] = self.seconds.get(kind, 0.0) + took

    def metrics(self) -> dict[str, float]:
        """By tag, the kinds of pause that there were: ``time/eval_seconds``, ``time/video_seconds``, ..."""
        return {f"time/{kind}_seconds": seconds for kind, seconds in self.seconds.items()}

    def load(self, seconds: Mapping[str, float]) -> None:
        """Continues with the seconds of earlier sessions."""
        self.seconds = {str(kind): float(number) for kind, number in seconds.items()}
