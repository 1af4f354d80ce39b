"""What DQN's network should say, and how far it is from that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.replay import Batch


@torch.no_grad()
def td_target(batch: Batch, target_net: QNetwork, online_net: QNetwork | None = None) -> Tensor:
    """Rewards and what is expected after them, (B, K) for K quantiles.

    Mnih et al. (2015), algorithm 1; with ``online_net``, which then chooses the action that ``target_net`` values,
    van Hasselt et al. (2016), arXiv:1509.06461, equation 4. Quantiles as in Dabney et al. (2018), arXiv:1710.10044,
    equation 13. Nothing is expected after a termination, whatever the network says of it.
    """
    if target_net.n_quantiles == 1 and online_net is None:
        following = target_net(batch.next_obs).amax(1, keepdim=True)
    else:
        chosen = (target_net if online_net is None else online_net)(batch.next_obs).argmax(1)
        following = of_action(target_net.quantiles(batch.next_obs), chosen)
    following = following.masked_fill(batch.terminated.unsqueeze(1), 0.0)
    return torch.addcmul(batch.reward.unsqueeze(1), batch.discount.unsqueeze(1), following)


def td_loss(network: QNetwork, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The weighted loss, to be minimised, and the error of every transition (B,).

    For expected values the Huber loss, whose gradient is the error clipped at 1, as in Mnih et al. (2015); for
    quantiles the quantile Huber loss of Dabney et al. (2018), arXiv:1710.10044, equation 10 and algorithm 1.

    Args:
        network: Being trained.
        batch: Rows of ``obs`` (B, *O), ``action`` and ``weight`` (B,), ``target`` (B, K) from :func:`td_target`.
    """
    action, target = batch["action"], batch["target"]
    if network.n_quantiles == 1:
        predicted = network(batch["obs"]).gather(1, action.unsqueeze(1))
        each = F.smooth_l1_loss(predicted, target, reduction="none").squeeze(1)
        error = (predicted.detach() - target).squeeze(1)
    else:
        each, error = quantile_huber(of_action(network.quantiles(batch["obs"]), action), target)
    return (each * batch["weight"]).mean(), error


def quantile_huber(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Quantile Huber loss (B,) of predicted quantiles (B, K) against samples (B, K'), and the mean distance (B,)."""
    k = predicted.shape[1]
    levels = (torch.arange(k, device=predicted.device) + 0.5) / k
    distance = target.unsqueeze(1) - predicted.unsqueeze(2)  # (B, K, K')
    huber = F.smooth_l1_loss(
        predicted.unsqueeze(2).expand_as(distance), target.unsqueeze(1).expand_as(distance), reduction="none"
    )
    asymmetric = (levels.unsqueeze(1) - (distance.detach() < 0).to(huber.dtype)).abs()
    return (asymmetric * huber).mean(2).sum(1), distance.detach().abs().mean((1, 2))


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """(B, K) of values (B, A, K), those of actions (B,)."""
    return values.gather(1, action.view(-1, 1, 1).expand(-1, 1, values.shape[2])).squeeze(1)
