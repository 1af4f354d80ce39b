"""Targets of Q-learning: rewards plus the discounted value of what follows."""

from __future__ import annotations

import torch
from torch import Tensor

from rltrain.agents.parts.q_network import QNetwork, valued_without_choice
from rltrain.agents.parts.replay import Batch


@torch.no_grad()
def td_target(batch: Batch, target_net: QNetwork, online_net: QNetwork | None = None) -> Tensor:
    """Rewards plus the discounted value of what follows, (B, K) for K quantiles.

    Mnih et al. (2015), algorithm 1. If ``online_net`` is given, it chooses the action that ``target_net`` values: van
    Hasselt et al. (2016), arXiv:1509.06461, equation 4. Quantiles are as in Dabney et al. (2018), arXiv:1710.10044,
    equation 13. The value after a termination is 0, whatever the network outputs; so is that of a state in which the
    mask allows no action, such as the last one of a truncated game, unless the network values states (dueling).
    """
    if target_net.n_quantiles == 1 and online_net is None:
        following = target_net(batch.next_obs).amax(1, keepdim=True)
    else:
        chosen = (target_net if online_net is None else online_net)(batch.next_obs).argmax(1)
        following = of_action(target_net.quantiles(batch.next_obs), chosen)
    following = valued_without_choice(following, batch.next_obs, target_net)
    following = following.masked_fill(batch.terminated.unsqueeze(1), 0.0)
    return torch.addcmul(batch.reward.unsqueeze(1), batch.discount.unsqueeze(1), following)


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """The values (B, K) of the given actions (B,), from the values (B, A, K) of all actions."""
    return values.gather(1, action.view(-1, 1, 1).expand(-1, 1, values.shape[2])).squeeze(1)
