"""The losses of implicit Q-learning: Kostrikov et al. (2021), arXiv:2110.06169, equations 5 to 7."""

from __future__ import annotations

import torch
from torch import Tensor


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """The squares |tau - 1(u < 0)| u^2 of differences u (B,), equation 5, whose mean is least at the expectile."""
    below = (difference < 0).to(difference.dtype)
    return (expectile - below).abs() * difference.square()


def advantage_weights(advantage: Tensor, beta: float, max_weight: float) -> Tensor:
    """The weights (B,) of actions in the policy's loss, equation 7: exp(beta * advantage), cut off at the largest."""
    return (beta * advantage).exp().clamp(max=max_weight)


def critic_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """The sum over the critics of the mean squared error, equation 6.

    Args:
        predicted: (C, B).
        target: (B,).
    """
    return (predicted - target).square().mean(1).sum()


def bootstrapped(reward: Tensor, discount: Tensor, value: Tensor, terminated: Tensor) -> Tensor:
    """Rewards plus the discounted value of what follows, (B,); that is 0 after a termination, whatever is given."""
    return torch.addcmul(reward, discount, value.masked_fill(terminated, 0.0))
