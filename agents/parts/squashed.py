"""Gaussians squashed into (-1, 1) by tanh.

Haarnoja et al. (2018), arXiv:1812.05905, appendix C: actions are tanh(u) of Gaussian u, and the density of an action is
that of u divided by the slope of tanh.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2, LOG_2PI = math.log(2.0), math.log(2.0 * math.pi)
LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Bounds of a log-deviation that a network computes, those of the original implementation and Stable-Baselines3."""


def log_slope_of_tanh(x: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), without the cancellation for large x."""
    return 2.0 * (LOG_2 - x - F.softplus(-2.0 * x))


def squashed_log_prob(raw: Tensor, z: Tensor, log_std: Tensor) -> Tensor:
    """Log-probability (...) of the actions tanh(raw), with respect to actions in (-1, 1).

    Args:
        raw: (..., A) before tanh.
        z: (..., A) raw minus its mean, divided by its deviation.
        log_std: (..., A) logarithm of that deviation.
    """
    each = 0.5 * z.square() + log_std + log_slope_of_tanh(raw)
    return -each.sum(-1) - 0.5 * LOG_2PI * raw.shape[-1]


def between(low: Tensor, high: Tensor, squashed: Tensor) -> Tensor:
    """Actions (..., *A) in [-1, 1], scaled to bounds (*A)."""
    return torch.lerp(low, high, 0.5 * (squashed + 1.0))
