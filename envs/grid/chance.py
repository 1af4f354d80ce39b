"""Uniform choices among a number of options that differs by row, each from one number in [0, 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(n: int, k: int, rng: torch.Generator | None, device: torch.device) -> tuple[Tensor, ...]:
    """``k`` tensors (n,) of numbers in [0, 1)."""
    return torch.rand(k, n, generator=rng, device=device).unbind()


def below(u: Tensor, bound: int | Tensor) -> Tensor:
    """A whole number from 0 to ``bound`` - 1, for each ``u``."""
    return (u * bound).to(torch.int64)


def but(k: Tensor, taken: Tensor) -> Tensor:
    """The ``k``-th of the whole numbers when ``taken`` is left out."""
    return k + (k >= taken)


def choose(allowed: Tensor, u: Tensor) -> Tensor:
    """The index (N,) of one of the allowed columns of each row; ``allowed`` is (N, K) bool."""
    count = allowed.cumsum(1, dtype=torch.int32)
    rank = (u * count[:, -1]).to(torch.int32) + 1
    return torch.searchsorted(count, rank.unsqueeze(1)).squeeze(1)
