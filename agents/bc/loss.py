"""The loss of behavioural cloning: the negative log-likelihood of the actions in the data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rltrain.agents.parts.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
)

FORBIDDEN = -1e7
"""A logit below this is one that a mask has taken out."""


def cloning_loss(distribution: Distribution, params: Tensor, raw: Tensor, smoothing: float = 0.0) -> Tensor:
    """The loss of each row, (B,).

    With label smoothing (Szegedy et al. 2016, arXiv:1512.00567, section 7) the target of a choice is the action with
    probability 1 - e, and with e any of the allowed ones: -(1 - e) log p(a) - e mean(log p). Of a switch it is
    (1 - e) a + e / 2.

    Args:
        distribution: The distribution of the actions.
        params: Its parameters (B, P), the logits of forbidden actions below :data:`FORBIDDEN`.
        raw: The actions, by its ``from_env``.
        smoothing: e.
    """
    match distribution:
        case Categorical():
            return _choice(params, raw, smoothing)
        case MultiCategorical():
            parts = zip(params.split(distribution.sizes, -1), raw.unbind(-1), strict=True)
            return torch.stack([_choice(part, chosen, smoothing) for part, chosen in parts]).sum(0)
        case Bernoulli():
            target = raw.to(params.dtype) * (1.0 - smoothing) + 0.5 * smoothing
            return F.binary_cross_entropy_with_logits(params, target, reduction="none").sum(-1)
    return -distribution.log_prob_entropy(params, raw)[0]


def _choice(logits: Tensor, chosen: Tensor, smoothing: float) -> Tensor:
    log_probs = logits.log_softmax(-1)
    loss = -log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    if not smoothing:
        return loss
    allowed = logits > FORBIDDEN
    mean = log_probs.masked_fill(~allowed, 0.0).sum(-1) / allowed.sum(-1)
    return (1.0 - smoothing) * loss - smoothing * mean


def agreement(distribution: Distribution, params: Tensor, raw: Tensor) -> Tensor:
    """How far the most likely actions are those of the data, for each row (B,).

    The share of equal choices, or for actions of numbers the mean squared difference.
    """
    mode = distribution.mode(params)
    if isinstance(distribution, SquashedGaussian):
        difference = distribution.to_env(mode) - distribution.to_env(raw)
        return difference.flatten(1).square().mean(-1)
    if isinstance(distribution, Gaussian):
        return (mode - raw).square().mean(-1)
    equal = (mode == raw).to(torch.float32)
    return equal.mean(-1) if equal.dim() > 1 else equal
