"""What a process of the command line does first: leaves at once on a signal, never outlives its parent, plays no sound.

Imported by ``rltrain`` before anything else. An exception in the middle of an import would print a traceback, and in
some libraries of C++ end in an abort; so there is none.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

PARENT = "RLTRAIN_PARENT"
"""Environment variable: the process that must outlive this one."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1  # sys/prctl.h

on_leave: list[Callable[[], object]] = []
"""What is called before a signal ends this process at once: removes what is half written."""


def is_command_line() -> bool:
    """Whether this process is ``rltrain ...`` or ``python -m rltrain ...``, and not a script that imports it."""
    name = os.path.basename(sys.argv[0]) if sys.argv else ""
    if name == "-m":  # the module itself is not found yet
        given = sys.orig_argv
        return "-m" in given and given.index("-m") + 1 < len(given) and given[given.index("-m") + 1] == "rltrain"
    return name.removesuffix(".exe") == "rltrain"


def start() -> None:
    """Sets the handlers, unless another program imports rltrain."""
    if not is_command_line() or threading.current_thread() is not threading.main_thread():
        return
    # What draws by SDL opens its sound too, whose libraries fill the terminal where there is no sound card.
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, leave)
    atexit.register(_take_no_notice)  # the first to be registered is the last to be called
    if (parent := os.environ.pop(PARENT, "")).isdigit():
        die_with(int(parent))


def _take_no_notice() -> None:
    """Keeps signals from changing the exit code of a command that is over, whose handlers Python is about to undo."""
    for number in SIGNALS:
        with suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)


def leave(number: int, frame: FrameType | None = None) -> None:
    """Ends this process at once, with the exit code for a signal; nothing has begun that could be saved."""
    for each in on_leave:
        with suppress(Exception):
            each()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(128 + number)


def die_with(parent: int, *, by_system: bool = True, number: int | None = None) -> None:
    """Makes this process die when its parent does, in whatever way that dies.

    Args:
        parent: The parent, which may have died already.
        by_system: Whether the system may kill it, where it can, when the thread that started it ends.
        number: The signal, where the system sends it; None for the one that nothing can handle.
    """
    if sys.platform == "linux" and by_system:
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number or signal.SIGKILL, 0, 0, 0)
    elif sys.platform != "win32":
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if sys.platform != "win32" and os.getppid() != parent:
        os._exit(1)


def _follow(parent: int) -> None:
    """Ends this process soon after its parent, where the system does not do so."""
    import time

    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


start()
