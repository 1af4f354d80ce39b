"""Messages between the ranks of one machine through shared memory.

A message through sockets wakes several threads one after another, which takes as long as a small minibatch on a virtual
machine. Here a rank writes its tensor to its own row, increments its turn, and polls until the others have done so.
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
"""Bytes of a cache line; each rank's turn has one to itself."""
TURN, PID, LEFT = range(3)
LOOKS = 5_000
"""How often a rank polls before it yields its core."""
PATIENCE = 0.1
"""Seconds after which it also checks whether the others are alive."""


class SharedMemory:
    """Memory shared by processes on this machine, with a row for each of them to write to.

    Args:
        path: A file made by :meth:`make`. It may be deleted once all have opened it.
        index: Number of this process.
        size: Number of processes.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, path: Path, index: int, size: int) -> None:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), 0)
        head = size * LINE
        self._signs = np.frombuffer(memory, np.int64, head // 8).reshape(size, LINE // 8)
        # A rank that is one turn ahead writes to the other half, which nobody reads any more.
        self._halves = np.frombuffer(memory, np.uint8, offset=head).reshape(2, size, CAPACITY)
        self._turns = self._signs[:, TURN]
        self._own = self._signs[index]
        self._own[PID] = os.getpid()
        self._index, self._turn = index, 0

    @staticmethod
    def make(size: int) -> Path | None:
        """A file for this number of processes, in memory if the system has a folder there.

        None if there is too little memory, or if processors may see each other's writes out of order.
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
        """Whether the tensor fits."""
        return tensor.device.type == "cpu" and tensor.numel() * tensor.element_size() <= CAPACITY

    def gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all processes, (size, *shape), for one that :meth:`fits`; valid until the next call.

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
        """Waits until all have taken this turn."""
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
        """Raises if one of the missing processes has ended."""
        for _, pid, left, *_ in self._signs[missing].tolist():
            if left or not _alive(pid):
                raise RuntimeError("another process has gone")

    def leave(self) -> None:
        """Tells the others to stop waiting."""
        self._own[LEFT] = 1


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
