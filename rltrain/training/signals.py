"""SIGINT and SIGTERM ask a run to stop after the current update; a second one stops it at once.

The exception is SIGTERM under ``torchrun``: it forwards a signal that the cluster's scheduler may have sent to the
ranks already.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import cached_property
from types import FrameType, TracebackType
from typing import Any

from rltrain.distributed.ranks import is_first, job_name
from rltrain.process import stopping
from rltrain.process.early import leave

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEAF = 0.5  # seconds that the main thread has to hear a signal before another one does
HANGS = 5.0
"""Seconds that an environment may take for a step once a signal was heard; then it is left, and the run with it."""


class Interrupt:
    """While entered, remembers the first signal instead of ending the process, and says so in one line at once.

    A call returns whether there was one; :mod:`rltrain.process.stopping` tells it to everything that takes long.
    Outside the main thread, where Python delivers no signals, it does nothing.

    Args:
        saying: The line.
    """

    def __init__(self, saying: str = "finishing this update and saving; once more to leave now") -> None:
        self.saying = saying
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            stopping.ask(None)
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
            if stopping.BREAK is not None and signal.getsignal(stopping.BREAK) in (signal.SIG_DFL, signal.SIG_IGN):
                self._before[stopping.BREAK] = signal.signal(stopping.BREAK, stopping.on_break)
            self._deaf = Deaf(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._before:
            self._deaf.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            stopping.ask(None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:  # a second signal stops the process at once
            signal.signal(each, signal.SIG_IGN if each in self.told_twice else signal.SIG_DFL)
        self.hear(number)

    @cached_property
    def told_twice(self) -> set[int]:
        """The signals that may come twice though they were sent once."""
        return {signal.SIGTERM} if job_name() is not None else set()

    def hear(self, number: int) -> None:
        """Takes note of the first signal, and says so."""
        if self.signal is None:
            self.signal = number
            stopping.ask(number)
            if is_first():
                _say(self.saying)


class Deaf:
    """Hears signals while the main thread cannot, and lets it leave an environment that hangs.

    In code of C, Python's handlers wait until that returns. The first signal is then noted by a thread, within a
    second, and a further one ends the process. Code that keeps the lock of Python's interpreter too keeps this thread
    from running as well.

    Args:
        interrupt: What takes note of signals.
    """

    listening = False

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        Deaf.listening = True
        threading.Thread(target=self._listen, daemon=True, name="rltrain-signals").start()

    def close(self) -> None:
        """Ends the thread."""
        Deaf.listening = False
        signal.set_wakeup_fd(self._before, warn_on_full_buffer=False)
        self._theirs.close()

    def _listen(self) -> None:
        """Waits for signals, which the system's part of Python writes here as soon as they come, each as a byte."""
        at, since = stopping.mark(), time.monotonic()
        with self._ours:
            while True:
                try:
                    numbers = self._ours.recv(1)
                except TimeoutError:
                    if (now := stopping.mark()) != at:
                        at, since = now, time.monotonic()
                    elif time.monotonic() - since >= HANGS:
                        stopping.break_off(at)
                    continue
                if not numbers:
                    return
                if numbers[0] in SIGNALS:
                    self._hear(numbers[0])
                    self._ours.settimeout(DEAF)

    def _hear(self, number: int) -> None:
        """Notes a signal, or ends the process by a further one, unless the main thread does so soon."""
        deaf = signal.getsignal(number) == self._interrupt._note
        time.sleep(DEAF)
        if not deaf or signal.getsignal(number) != self._interrupt._note:
            return
        if self._interrupt.signal is None:
            self._interrupt.hear(number)
        elif number not in self._interrupt.told_twice:
            leave(number)


def _forget() -> None:
    """Keeps a forked child from telling its parent of its own signals."""
    if Deaf.listening:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _say(line: str) -> None:
    """Writes a line to the standard error output, whatever was being printed when the signal came."""
    begin = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # below a display of progress
    with suppress(OSError, ValueError):
        os.write(2, f"{begin}{line}\n".encode())
