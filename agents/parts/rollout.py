"""The memory of an on-policy agent: T steps of N environments, allocated once, on the device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rltrain.tree import leaves, tree_map


class Rollout:
    """Named trees of tensors, each (T, N, ...), filled one time step after another.

    Args:
        horizon: T.
    """

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.step = 0
        self._data: dict[str, Any] = {}
        self._rows: dict[str, list[tuple[Tensor, ...]]] = {}  # the T time steps of each leaf

    def __getitem__(self, name: str) -> Any:
        """The tree stored under ``name``, leaves (T, N, ...)."""
        return self._data[name]

    def get(self, name: str) -> Any:
        """The tree stored under ``name``, leaves (T, N, ...); None if there is none."""
        return self._data.get(name)

    def store(self, **values: Any) -> None:
        """Copies trees of (N, ...) into the current time step; memory is allocated at the first call."""
        for name, tree in values.items():
            if name not in self._data:
                self._data[name] = tree_map(lambda x: x.new_empty((self.horizon, *x.shape)), tree)
                self._rows[name] = [buffer.unbind() for buffer in leaves(self._data[name])]
            for rows, value in zip(self._rows[name], leaves(tree), strict=True):
                rows[self.step].copy_(value)

    def advance(self) -> None:
        """Ends the current time step."""
        self.step += 1

    def clear(self) -> None:
        """Starts over; the memory is kept."""
        self.step = 0


def flat(tree: Any) -> Any:
    """(T, N, ...) as (T * N, ...)."""
    return tree_map(lambda x: x.flatten(0, 1), tree)


def in_chunks(function: Callable[[Any], Tensor], tree: Any, size: int) -> Tensor:
    """Applies a function to rows ``size`` at a time and joins the results, to bound its memory."""
    rows = next(leaves(tree)).shape[0]
    if rows <= size:
        return function(tree)
    return torch.cat([function(tree_map(lambda x, i=i: x[i : i + size], tree)) for i in range(0, rows, size)])


def shuffled_minibatches(batch: Any, size: int, generator: torch.Generator | None) -> Iterator[Any]:
    """The rows of a batch in random order, ``size`` at a time; the last minibatch may be shorter.

    The whole batch is gathered once and then cut into views: one gather per epoch, not per minibatch.
    """
    first = next(leaves(batch))
    order = torch.randperm(first.shape[0], generator=generator, device=first.device)
    yield from minibatches(tree_map(lambda x: x.index_select(0, order), batch), size)


def minibatches(batch: Any, size: int) -> Iterator[Any]:
    """The rows of a batch in the given order, ``size`` at a time, as views."""
    if next(leaves(batch)).shape[0] <= size:
        yield batch
        return
    pieces = tree_map(lambda x: x.split(size), batch)
    for i in range(-(-next(leaves(batch)).shape[0] // size)):
        yield tree_map(lambda _, pieces, i=i: pieces[i], batch, pieces)


def warn_of_remainder(horizon: int, num_envs: int, batch_size: int) -> None:
    """Warns if the size of minibatches does not divide that of a rollout."""
    transitions = horizon * num_envs
    if last := transitions % batch_size:
        warnings.warn(
            f"batch_size={batch_size} does not divide the rollout of {horizon} steps x {num_envs} "
            f"environments = {transitions}: the last minibatch of an epoch has {last} transitions.",
            stacklevel=3,
        )
