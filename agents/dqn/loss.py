"""DQN's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.quantiles import quantile_huber
from rltrain.agents.parts.td import of_action


def td_loss(network: QNetwork, batch: Mapping[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
    """The weighted loss, to be minimised, and its gradient.

    For expected values, it is the Huber loss, whose gradient is the error clipped at 1, as in Mnih et al. (2015). For
    quantiles, it is the quantile Huber loss of Dabney et al. (2018), arXiv:1710.10044, equation 10 and algorithm 1.

    Args:
        network: The network being trained.
        batch: Rows of ``obs`` (B, *O), ``action`` (B,), ``target`` (B, K) from
            :func:`~rltrain.agents.parts.td.td_target`, and ``share`` (B, A): the weight of each action value's error in
            the loss, 0 for actions not taken.

    Returns:
        A scalar to differentiate, or None if the gradients are already in place; the loss; and the errors: (B, A) for
        expected values, including those of actions not taken, or (B,) for quantiles.
    """
    values, back = network.evaluate(batch["obs"])
    with torch.no_grad():
        target, share = batch["target"], batch["share"]
        if network.n_quantiles == 1:
            error = values - target
            slope = error.clamp(-1.0, 1.0)
            gradient = slope * share
            loss = (gradient * torch.sub(error, slope, alpha=0.5)).sum()
        else:
            each, slope, error = quantile_huber(of_action(values, batch["action"]), target)
            gradient = share.unsqueeze(2) * slope.unsqueeze(1)
            loss = (each * share.sum(1)).sum()
    return back(gradient), loss, error
