"""SIGINT and SIGTERM ask a run to stop after the current update; a second one stops it at once.

The exception is SIGTERM under ``torchrun``: it forwards a signal that the cluster's scheduler may have sent to the
ranks already.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from rltrain.distributed.ranks import is_first, job_name
from rltrain.process import stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            stopping.ask(None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        stopping.ask(number)
        told_twice = {signal.SIGTERM} if job_name() is not None else set()
        for each in SIGNALS:  # a second signal stops the process at once
            signal.signal(each, signal.SIG_IGN if each in told_twice else signal.SIG_DFL)
        if is_first():
            _say(self.saying)


def _say(line: str) -> None:
    """Writes a line to the standard error output, whatever was being printed when the signal came."""
    begin = "\n" if sys.stderr is not None and sys.stderr.isatty() else ""  # below a display of progress
    with suppress(OSError, ValueError):
        os.write(2, f"{begin}{line}\n".encode())
