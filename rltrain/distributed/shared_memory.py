"""What the ranks of one machine tell each other through memory that all of them have.

A message through sockets wakes several threads one after another, which on a virtual machine takes as long as a small
minibatch. Here a rank writes its tensor into a place of its own, counts its turn up, and looks until the others have.
"""

from __future__ import annotations

import mmap
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

CAPACITY = 2**20
"""Bytes of the largest tensor."""
LINE = 64
"""Bytes of a cache line: nobody else writes into that of a rank's turn."""
TURN, PID, LEFT = range(3)
LOOKS = 5_000
"""How often a rank looks before it lets others have its core."""
PATIENCE = 0.1
"""Seconds until it also asks whether the others are still alive."""


class SharedMemory:
    """Memory of several processes on this machine, each of which has a row of it to write in.

    Args:
        path: A file made by :meth:`make`. It may be deleted once all have opened it.
        index: Which process this is.
        size: How many there are.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, index: int, size: int) -> None:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        head = size * LINE
        self._signs = np.frombuffer(memory, np.int64, head // 8).reshape(size, LINE // 8)
        # A rank that is one turn ahead writes into the other half: nobody is still reading there.
        self._halves = np.frombuffer(memory, np.uint8, offset=head).reshape(2, size, CAPACITY)
        self._turns = self._signs[:, TURN]
        self._own = self._signs[index]
        self._own[PID] = os.getpid()
        self._index, self._turn = index, 0

    @staticmethod
    def make(size: int) -> Path | None:
        """A file for so many processes, in memory where there is such a place.

        None where there is not enough, or where processors may see what another wrote in another order.
        """
        if platform.machine() not in ("x86_64", "AMD64") or not hasattr(os, "posix_fallocate"):
            return None
        shared = Path("/dev/shm")
        handle, name = tempfile.mkstemp(prefix="rltrain-", dir=shared if shared.is_dir() else None)
        try:
            os.posix_fallocate(handle, 0, size * (LINE + 2 * CAPACITY))
        except OSError:
            Path(name).unlink()
            return None
        finally:
            os.close(handle)
        return Path(name)

    @staticmethod
    def fits(tensor: Tensor) -> bool:
        """Whether there is room for it."""
        return tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() <= CAPACITY

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all (size, *shape), which :meth:`fits`; valid until the next call.

        Raises:
            RuntimeError: Another process has gone.
        """
        self._turn += 1
        half = self._halves[self._turn % 2]
        own = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        half[self._index, : own.size] = own
        self._own[TURN] = self._turn
        self._wait()
        rows = torch.from_numpy(half[:, : own.size]).view(tensor.dtype)
        return rows.view(-1, *tensor.shape)

    def _wait(self) -> None:
        """Until all have taken this turn."""
        turns, turn = self._turns, self._turn
        for _ in range(LOOKS):
            if turns.min() >= turn:
                return
        begin = time.monotonic()
        while turns.min() < turn:
            late = time.monotonic() - begin > PATIENCE
            if late:
                self._ask(turns < turn)
            time.sleep(0.001 if late else 0.0)

    def _ask(self, missing: np.ndarray) -> None:
        """Whether those that are missing will come."""
        for _, pid, left, *_ in self._signs[missing].tolist():
            if left or not _alive(pid):
                raise RuntimeError("another process has gone")

    def leave(self) -> None:
        """Tells the others not to wait any more."""
        self._own[LEFT] = 1


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
