"""Who uses float64 on a device: mps, for one, has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Float64(TorchDispatchMode):
    """Notes the operations that give float64 on a device, or take it there from the host to be converted on the way."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, op: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = op(*args, **(kwargs or {}))
        there = [x for x in tree_leaves(result) if isinstance(x, Tensor) and x.device.type == self.device]
        given = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        if there and any(x.dtype == torch.float64 for x in (*there, *given)):
            self.seen.append(str(op))
        return result
