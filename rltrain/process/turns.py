"""Threads take turns with what a process has only one of, such as its generators of random numbers."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SLICE = 0.1
"""Seconds that a thread keeps its turn at least; longer where the others kept theirs for longer."""
PATIENCE = 60.0
"""Seconds after which a thread that waits for its turn says so."""


class Turns:
    """Threads take turns with a thing of the process, in which each of them finds what it left there.

    Args:
        save: Returns the state of the thing.
        restore: Puts back what ``save`` returned.
    """

    def __init__(self, save: Callable[[], Any], restore: Callable[[Any], None]) -> None:
        self._save, self._restore = save, restore
        self._own = threading.local()  # depth: how often this thread has joined; state: what it left for good
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)  # where the threads that take turns are not

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._order: deque[int] = deque()  # the thread whose turn it is, and those that wait for theirs
        self._members = 0  # threads that have joined, also those that take no turns any more
        self._before: Any = None  # the state before the first of them joined
        self._since = self._slice = 0.0  # when the turn began, and how many seconds it lasts

    @contextmanager
    def joined(self) -> Iterator[None]:
        """While entered, this thread takes turns, and has one at the beginning; afterwards all is as it was before.

        A thread that enters again inside has its turn already.
        """
        me, depth = threading.get_ident(), getattr(self._own, "depth", 0)
        left = self._own.__dict__.pop("state", None)
        if depth and left is None:
            state = self._save()
            try:
                yield
            finally:
                self._restore(state)
            return
        with self._changed:
            if not self._members:
                self._before = self._save()
            self._members += 1
        try:
            self._own.depth = 1
            with self._changed:
                self._order.append(me)
                self._wait(me)
            yield
        finally:
            self._own.depth = depth
            self._own.__dict__.pop("state", None)
            if left is not None:
                self._own.state = left
            with self._changed:
                self._members -= 1
                self._remove(me)
                if not self._members:
                    self._restore(self._before)
                    self._before = None

    def pass_on(self) -> None:
        """Lets the next thread have its turn, if one waits and this one had its share; returns in the next turn."""
        if len(self._order) < 2 or not self.mine or time.monotonic() - self._since < self._slice:
            return
        me, state = threading.get_ident(), self._save()
        with self._changed:
            self._order.rotate(-1)
            self._changed.notify_all()
            self._wait(me)
        self._restore(state)

    def leave(self) -> None:
        """Ends the turns of this thread: it will not use the thing any more, and nobody needs to wait for it."""
        if self.mine:
            self._own.state = self._save()
            with self._changed:
                self._remove(threading.get_ident())

    @property
    def mine(self) -> bool:
        """Whether it is the turn of this thread."""
        order = self._order
        return bool(order) and order[0] == threading.get_ident()

    @property
    def of_another(self) -> bool:
        """Whether it is the turn of another thread."""
        return bool(self._order) and not self.mine

    @property
    def left(self) -> Any:
        """The state in which this thread left the thing when it ended its turns; None if it did not."""
        return getattr(self._own, "state", None)

    def _remove(self, me: int) -> None:
        if me in self._order:
            self._order.remove(me)
            self._changed.notify_all()

    def _wait(self, me: int) -> None:
        """Waits for the turn of this thread."""
        began = time.monotonic()
        try:
            if not self._changed.wait_for(lambda: self._order[0] == me, PATIENCE):
                warnings.warn(
                    "This run waits for another one in this process, which is in a long update or evaluation: runs in "
                    "threads take turns. In processes of their own they do not.",
                    stacklevel=2,
                )
                self._changed.wait_for(lambda: self._order[0] == me)
        except BaseException:
            self._remove(me)
            raise
        self._since = time.monotonic()
        self._slice = max(SLICE, (self._since - began) / 2 / max(1, len(self._order) - 1))
