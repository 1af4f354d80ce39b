"""Named arrays in one block of memory, which processes can share and one copy can move."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ALIGNMENT = 64  # bytes; aligns every type of number


class Block:
    """Named arrays one after another in one piece of memory.

    Args:
        fields: Type and shape by name, in their order in memory.
        memory: :attr:`memory` of another block with the same fields; new memory when None.

    Attributes:
        arrays: The arrays by name.
        offsets: Start of each in bytes.
        memory: Memory to pass to other processes when they are started.
    """

    def __init__(self, fields: Mapping[str, tuple[np.dtype, Sequence[int]]], memory: Any = None) -> None:
        self.offsets: dict[str, int] = {}
        size = 0
        for name, (dtype, shape) in fields.items():
            self.offsets[name] = size
            used = dtype.itemsize * int(np.prod(shape))
            size += -(-used // ALIGNMENT) * ALIGNMENT
        self.memory = _shared(size) if memory is None else memory
        begin = -ctypes.addressof(self.memory) % ALIGNMENT
        self.bytes = np.frombuffer(self.memory, np.uint8)[begin : begin + size]
        self.arrays = {
            name: np.ndarray(tuple(shape), dtype, self.bytes, self.offsets[name])
            for name, (dtype, shape) in fields.items()
        }


def _shared(size: int) -> Any:
    """Memory that processes share."""
    from multiprocessing.sharedctypes import RawArray

    return RawArray(ctypes.c_byte, max(size, 1) + ALIGNMENT)
