"""Starts the other ranks of a command line on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from rltrain.errors import RankFailed
from rltrain.process.early import PARENT

GRACE = 5.0
"""Seconds that the others have to end by themselves."""
HOST = "127.0.0.1"


class Starter:
    """While entered, ranks 1 to ``number`` - 1 run the same command line; this process is rank 0.

    They are in the process group of this one, so a terminal's Ctrl-C reaches all. They get the environment variables
    that ``torchrun`` would set, and die with this process.

    Args:
        number: Number of ranks, this one included.
        command: The arguments of ``rltrain``.
    """

    def __init__(self, number: int, command: Sequence[str]) -> None:
        self.number = number
        self.command = list(command)
        self._ranks: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Starter:
        from torch.distributed import TCPStore

        self.store: Any = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        known = {
            "MASTER_ADDR": HOST,
            "MASTER_PORT": self.store.port,
            "TORCHELASTIC_USE_AGENT_STORE": True,  # the store exists already, so no rank must make it
            "WORLD_SIZE": self.number,
            "LOCAL_WORLD_SIZE": self.number,
            "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),  # no traces of lost connections
        }
        debug = ["--debug"] if "--debug" in sys.argv else []
        safe = [] if os.getcwd() in sys.path else ["-P"]  # modules of this folder must not hide others
        for rank in range(1, self.number):
            own = {**known, "RANK": rank, "LOCAL_RANK": rank, PARENT: os.getpid()}
            self._ranks.append(
                subprocess.Popen(
                    [sys.executable, *safe, "-m", "rltrain", *self.command, *debug],
                    env={**os.environ, **{name: str(value) for name, value in own.items()}},
                    stdin=subprocess.DEVNULL,
                )
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number in (None, signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):  # Windows has only SIGTERM
            alive = [rank for rank in self._ranks if rank.poll() is None]
            deadline = time.monotonic() + GRACE
            for rank in alive:
                if number is not None:
                    rank.send_signal(number)
            for rank in alive:
                with suppress(subprocess.TimeoutExpired):
                    rank.wait(max(0.0, deadline - time.monotonic()))

    def wait(self, met: Callable[[], bool]) -> None:
        """Waits for the other ranks to connect.

        Raises:
            RankFailed: One has exited instead.
        """
        while not met():
            for rank, process in enumerate(self._ranks, 1):
                if code := process.poll():
                    raise RankFailed(f"Rank {rank} left with exit code {code}.", exit_code=code if code > 0 else 3)
            time.sleep(0.01)

    def who_died(self) -> str | None:
        """The rank that was killed and the signal, if any."""
        deadline = time.monotonic() + 1.0  # its connections close before its exit code is known
        while time.monotonic() < deadline:
            for rank, process in enumerate(self._ranks, 1):
                if code := process.poll():
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
                    return f"Rank {rank} {how}"
            time.sleep(0.01)
        return None
