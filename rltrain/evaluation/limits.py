"""Limits on how long an evaluation or a film may last, and a line about its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rltrain.vec import VecEnv

MAX_STEPS = 27_000
"""Where an episode is cut short in an environment without a time limit: 30 minutes of an Atari game."""
MAX_SECONDS = 600.0
"""After how many seconds an evaluation ends with what it has."""
FIRST_LINE, NEXT_LINES = 5.0, 10.0  # seconds until a progress line is printed


@dataclass
class Limits:
    """How long an evaluation or a film may last.

    Attributes:
        steps: Steps after which an episode is cut short; None for :data:`MAX_STEPS` where the environment has no limit
            of its own.
        seconds: Seconds for all episodes together; None for no limit.
        progress: Whether to print a line about the progress now and then, to stderr.
        what: What the line says is going on.
        imposed: Whether the environments were made with ``steps`` as their time limit, having none of their own.
    """

    steps: int | None = None
    seconds: float | None = MAX_SECONDS
    progress: bool = False
    what: str = "evaluation"
    imposed: bool = False

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Starts the clock."""
        self._began = time.monotonic()
        self._next_line = FIRST_LINE

    def steps_in(self, env: VecEnv) -> int | None:
        """Steps after which an episode in ``env`` is cut short; None where the environment's own limit ends it."""
        own = getattr(env, "max_episode_steps", None)
        if own is None or self.imposed:
            return self.steps or MAX_STEPS
        return self.steps if self.steps is not None and self.steps < own else None

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def over(self) -> bool:
        """Whether time is up."""
        return self.seconds is not None and self.passed >= self.seconds

    def tell(self, done: str) -> None:
        """Prints a line about what has been done, if one is due."""
        if self.progress and self.passed >= self._next_line:
            self._next_line = self.passed + NEXT_LINES
            print(f"  {self.what}: {done}, {self.passed:.0f} s", file=sys.stderr)


def make_limited(make: Callable[..., VecEnv], limits: Limits, *, limited: bool | None = None) -> VecEnv:
    """Makes environments with a time limit, where they have none of their own.

    Args:
        make: Makes them; takes ``max_episode_steps``.
        limits: The limits, which note what was done.
        limited: Whether they have one; None to make them and see.
    """
    if limited is not False:
        env: Any = make()
        if limited or getattr(env, "max_episode_steps", None) is not None:
            return env
        env.close()
    limits.steps, limits.imposed = limits.steps or MAX_STEPS, True
    return make(max_episode_steps=limits.steps)
