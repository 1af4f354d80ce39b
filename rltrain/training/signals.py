"""SIGINT and SIGTERM ask a run to stop after the current update; a second one stops it at once.

The exception is SIGTERM under ``torchrun``: it forwards a signal that the cluster's scheduler may have sent to the
ranks already.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from rltrain.distributed.ranks import job_name

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While entered, remembers the first signal instead of ending the process.

    A call returns whether there was one. Outside the main thread, where Python delivers no signals, it
    does nothing.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __call__(self) -> bool:
        return self.signal is not None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        told_twice = {signal.SIGTERM} if job_name() is not None else set()
        for each in SIGNALS:  # a second signal stops the process at once
            signal.signal(each, signal.SIG_IGN if each in told_twice else signal.SIG_DFL)
