"""The penalty of conservative Q-learning: Kumar et al. (2020), arXiv:2006.04779, equation 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cql_loss(values: Tensor, action: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """The Huber loss of the actions taken plus the weighted penalty; and each of the two, all 0-d.

    The penalty is the mean of logsumexp_a Q(s, a) - Q(s, a_data), the CQL(H) of equation 4: it pushes all values down,
    those of the data up again. Actions that a mask forbids have values so low that they do not count in it.

    Args:
        values: (B, A) action values.
        action: (B,) the actions in the data, counted from 0.
        target: (B,) what their values are to be.
        alpha: Weight of the penalty.
    """
    taken = values.gather(1, action.unsqueeze(1)).squeeze(1)
    error = F.smooth_l1_loss(taken, target)
    penalty = (torch.logsumexp(values, 1) - taken).mean()
    return error + alpha * penalty, error, penalty
