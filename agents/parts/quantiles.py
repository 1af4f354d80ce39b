"""Distributions of returns by their quantiles: Dabney et al. (2018), arXiv:1710.10044."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile_huber(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The quantile Huber loss of predicted quantiles (B, K) against samples (B, K').

    Returns:
        The loss (B,), its derivative by the predicted quantiles (B, K), and the mean absolute distance (B,).
    """
    k = predicted.shape[1]
    levels = (torch.arange(k, dtype=predicted.dtype, device=predicted.device) + 0.5) / k
    distance = target.unsqueeze(1) - predicted.unsqueeze(2)  # (B, K, K')
    asymmetric = (levels.unsqueeze(1) - (distance < 0).to(distance.dtype)).abs()
    slope = distance.clamp(-1.0, 1.0)  # derivative of the Huber loss slope * (distance - slope / 2)
    huber = slope * torch.sub(distance, slope, alpha=0.5)
    return (asymmetric * huber).mean(2).sum(1), -(asymmetric * slope).mean(2), distance.abs().mean((1, 2))
