"""SAC's losses: Haarnoja et al. (2018), arXiv:1812.05905, equations 3 to 6, 7 and 18.

Critics give values (C, B), or quantiles (C, B, K); where several are compared, a critic's value is its mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rltrain.agents.parts.critics import Critics
from rltrain.agents.parts.quantiles import quantile_huber
from rltrain.agents.sac.policy import SquashedActor


@torch.no_grad()
def soft_target(actor: SquashedActor, target: Critics, batch: Mapping[str, Any], ent_coef: Tensor) -> Tensor:
    """Rewards plus the discounted soft value of what follows, (B,), or (B, K) for K quantiles.

    Of the target critics, the one with the lowest value counts (Fujimoto et al. 2018, arXiv:1802.09477, equation 10).
    The value after a termination is 0, whatever the networks say.
    """
    action, log_prob = actor.sample(batch["next_obs"], batch["next_noise"])
    following = lowest(target(batch["next_obs"], action))
    rows = (-1, 1) if following.dim() > 1 else (-1,)
    following = following - (ent_coef * log_prob).view(rows)
    following = following.masked_fill(batch["terminated"].view(rows), 0.0)
    return torch.addcmul(batch["reward"].view(rows), batch["discount"].view(rows), following)


def lowest(values: Tensor) -> Tensor:
    """Row by row what the critic with the lowest value says: (C, B) to (B,), or (C, B, K) to (B, K)."""
    if values.dim() == 2:
        return values.amin(0)
    critic = values.mean(-1).argmin(0)
    return values.gather(0, critic.view(1, -1, 1).expand(1, *values.shape[1:])).squeeze(0)


def critic_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The sum over the critics of half the mean squared error, or of the quantile Huber loss.

    Args:
        predicted: (C, B), or (C, B, K) quantiles.
        target: (B,), or (B, K).
        weight: (B,) weight of each row.
    """
    if predicted.dim() == 2:
        return 0.5 * ((predicted - target).square() * weight).sum() / len(weight)
    critics = predicted.shape[0]
    each, _, _ = quantile_huber(predicted.flatten(0, 1), target.repeat(critics, 1))
    return (each * weight.repeat(critics)).sum() / len(weight)


def policy_loss(
    actor: SquashedActor, critic: Critics, batch: Mapping[str, Any], ent_coef: Tensor
) -> tuple[Tensor, Tensor]:
    """What the policy minimises: the weighted entropy's loss minus the lowest value; and log-probabilities (B,)."""
    action, log_prob = actor.sample(batch["obs"], batch["noise"])
    values = critic(batch["obs"], action, frozen=True)
    value = (values if values.dim() == 2 else values.mean(-1)).amin(0)
    return ((ent_coef * log_prob - value) * batch["weight"]).mean(), log_prob.detach()
