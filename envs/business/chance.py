"""Counts of customers, drawn from one uniform number each."""

from __future__ import annotations

import torch
from torch import Tensor


def count_cdf(mean: Tensor, size: int, dispersion: Tensor | None = None) -> Tensor:
    """P(count <= k) for k = 0, ..., size - 1: (..., size) for means (...).

    ``torch.searchsorted(cdf, u)`` turns uniform numbers u (..., M) into counts of at most ``size``. Unlike
    ``torch.poisson``, it takes the same number of random numbers for every row.

    Args:
        mean: Expected counts (...), not below 0.
        size: Number of terms.
        dispersion: Variance divided by mean, 0-d, not below 1: a negative binomial distribution, whose terms follow
            the recursion of Panjer, "Recursive evaluation of a family of compound distributions", 1981, equation 3.
            None for a Poisson distribution, the limit at 1.
    """
    k = torch.arange(size, device=mean.device, dtype=mean.dtype)
    mean = mean.unsqueeze(-1)
    if dispersion is None:
        log_factorial = k.clamp(min=1).log().cumsum(0)  # torch.compile would compute lgamma again for every mean
        log_p = torch.addcmul(-mean - log_factorial, mean.clamp(min=1e-30).log(), k)
    else:
        excess = (dispersion - 1).clamp(min=1e-6)
        log_none = -mean * torch.log1p(excess) / excess
        ratio = torch.addcmul(mean, excess, k[:-1]) / (dispersion * k[1:])  # of a term to the one before it
        log_p = torch.cat((log_none, log_none + ratio.log().cumsum(-1)), dim=-1)
    return log_p.clamp(min=-80).exp().cumsum(-1)  # smaller ones would be subnormal numbers, which are slow
