"""A CUDA graph on the CPU: records the operations of a block with their tensors, and replays them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


class PlayerPiano(TorchDispatchMode):
    """Records inside a ``with`` block; :meth:`replay` runs the same on what lies in memory then.

    Unlike CUDA it also runs what it records, so that the first replay is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, Any]] = []
        self.played = True

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = op(*args, **(kwargs or {}))
        self.notes.append((op, *tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}, out))))
        return out

    @torch.no_grad()
    def replay(self) -> None:
        if self.played:
            self.played = False
            return
        for op, args, kwargs, out in self.notes:
            for place, new in zip(tree_leaves(out), tree_leaves(op(*args, **kwargs)), strict=True):
                if isinstance(place, Tensor) and place.data_ptr() != new.data_ptr():
                    place.copy_(new)
