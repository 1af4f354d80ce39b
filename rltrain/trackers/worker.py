"""The process of a tracker that :mod:`rltrain.trackers.process` starts: carries out the calls that it reads."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from rltrain.plugins import resolve
from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.process import unpack

LAST_SECONDS = 600.0
"""How long after the end of the run this process may go on sending."""


def serve(entry_point: str, calls: IO[bytes]) -> None:
    """Makes the tracker and does what it is told, until the stream ends; then closes the tracker."""
    tracker: Tracker | None = None
    try:
        while (call := unpack(calls)) is not None:
            method, arguments = call
            if method == "start":
                facts: dict[str, Any] = arguments[0]
                tracker = resolve(entry_point)(RunInfo(**{**facts, "run_dir": Path(facts["run_dir"])}))
            else:
                getattr(tracker, method)(*arguments)
    finally:
        limit = threading.Timer(LAST_SECONDS, os._exit, (1,))
        limit.daemon = True
        limit.start()
        if tracker is not None:
            tracker.close()


def main() -> int:
    """Serves the tracker that the command line names; the only line on standard output says how that ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the stream ends when the run does
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the library prints
    last, code = "done", 0
    try:
        serve(sys.argv[1], sys.stdin.buffer)
    except BaseException as error:
        last, code = f"{type(error).__name__}: {' '.join(str(error).split())}", 1
    with suppress(OSError):
        answer.write(last)
        answer.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
