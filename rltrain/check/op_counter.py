"""Counts the operations that torch dispatches, and finds where the host would wait for the device."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result or shape the host must know. The CPU dispatches them under these names.
WAITING = {
    "_local_scalar_dense",  # item, bool, int, float
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
# Operations that wait inside, where a dispatch mode does not see it.
WAITING_INSIDE = {
    "multinomial",
    "normal.Tensor_Tensor",
    "normal.Tensor_float",
    "normal.float_Tensor",
    "repeat_interleave.Tensor",
}
INDEXING = {
    "index",
    "index_put",
    "index_put_",
    "_unsafe_index",
    "_unsafe_index_put",
}  # nonzero inside, if the index is a mask


class OpCounter(TorchDispatchMode):
    """Counts dispatched operations inside a ``with`` block.

    ``tolist`` and ``numpy`` dispatch nothing on the CPU: a run on ``device="meta"`` finds those.

    Attributes:
        counts: How often each operation was dispatched, views included.
        waits: The operations that would make the host wait for the device, in order.
        places: The line of code that called each of them, such as ``walk.py line 41``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.waits: list[str] = []
        self.places: list[str] = []

    @property
    def total(self) -> int:
        """Operations dispatched."""
        return self.counts.total()

    def __torch_dispatch__(
        self, op: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(op).removeprefix("aten.")
        self.counts[name] += 1
        base = name.partition(".")[0]
        if (
            base in WAITING
            or base in WAITING_INSIDE
            or name in WAITING_INSIDE
            or (base in INDEXING and _has_mask(args[1]))
        ):
            self.waits.append(name)
            self.places.append(_place())
        return op(*args, **(kwargs or {}))


def _place() -> str:
    """The file and line outside torch that is being executed."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("torch."):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)} line {frame.f_lineno}"


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def waits_of(function: Callable[[], Any]) -> list[str]:
    """The waits inside one call."""
    with OpCounter() as counter:
        function()
    return counter.waits
