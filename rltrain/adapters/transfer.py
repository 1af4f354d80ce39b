"""Copies a block's arrays to a device as tensors, all of them in one copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rltrain.adapters.block import Block
from rltrain.errors import ConfigError


class Transfer:
    """Copies the beginning of a block to a device.

    For CUDA the block is page-locked, so that nobody waits for the copy. Before the block is written again, the host
    must have waited for something later in the same stream, such as the copy of the actions to the host. Otherwise the
    code is the same on every device. It has not been run on a GPU yet.

    Args:
        block: The block with the arrays.
        shapes: Shapes of those tensors whose shape differs from that of their array.
        device: Device to copy to.

    Raises:
        ConfigError: CUDA cannot lock the memory.
    """

    def __init__(self, block: Block, shapes: Mapping[str, Sequence[int]], device: torch.device) -> None:
        self.device = device
        self._host = torch.from_numpy(block.bytes)
        if device.type == "cuda":
            _lock_pages(self._host)
        self._fields = []  # name, type, shape, strides, and its start in bytes and in elements
        for name, array in block.arrays.items():
            view = torch.from_numpy(array)
            view = view.view(*shapes[name]) if name in shapes else view
            start = block.offsets[name]
            element = start // array.itemsize
            self._fields.append((name, view.dtype, tuple(view.shape), view.stride(), start, element))

    def take(self, size: int) -> dict[str, Tensor]:
        """New tensors by name, with the arrays in the first ``size`` bytes."""
        data = self._host[:size].to(self.device, non_blocking=True, copy=True)
        typed: dict[torch.dtype, Tensor] = {torch.uint8: data}
        new = {}
        for name, dtype, shape, strides, start, element in self._fields:
            if start >= size:
                break
            if dtype not in typed:
                typed[dtype] = data.view(dtype)
            new[name] = typed[dtype].as_strided(shape, strides, element)
        return new


def _lock_pages(host: Tensor) -> None:
    """Page-locks shared memory for CUDA."""
    torch.cuda.init()
    code = int(torch.cuda.cudart().cudaHostRegister(host.data_ptr(), host.numel(), 0))
    if code:
        raise ConfigError(f"CUDA cannot lock {host.numel()} bytes: error {code}.", "Raise 'ulimit -l', or use the CPU.")
