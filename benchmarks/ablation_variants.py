"""Variants of the agents for ``benchmarks.ablation``: losses by autograd, and products by oneDNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rltrain.agents.parts import manual_grad
from rltrain.agents.ppo.loss import Rows, normalized

ROWS = 1_250_000  # least number of multiplications in a product that oneDNN computes


def ppo_loss(
    agent: Any, batch: dict[str, Any], clip_range: float | Tensor, clip_range_vf: float | Tensor | None
) -> tuple[Tensor, Rows]:
    """PPO's loss with all of its gradient left to autograd."""
    config, policy = agent.loss_config, agent.policy
    params, value = policy(batch["obs"])
    log_prob, entropy = policy.distribution.log_prob_entropy(params, batch["raw"])
    advantage = normalized(batch["advantage"]) if config.normalize_advantage else batch["advantage"]
    log_ratio = log_prob - batch["log_prob"]
    ratio = log_ratio.exp()
    surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(1.0 - clip_range, 1.0 + clip_range))
    if clip_range_vf is not None:
        value = batch["value"] + (value - batch["value"]).clamp(-clip_range_vf, clip_range_vf)
    error = value - batch["returns"]
    loss = config.vf_coef * error.square().mean() - surrogate.mean()
    if config.ent_coef:
        loss = loss - config.ent_coef * entropy.mean()
    return loss, Rows(*(x.detach() for x in (surrogate, error, entropy, log_ratio)))


def td_loss(agent: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """PQN's loss, also by autograd."""
    predicted = (agent.policy(batch["obs"]) * batch["taken"]).sum(1)
    loss = 0.5 * F.mse_loss(predicted, batch["target"])
    return loss, loss.detach()


def dqn_loss(agent: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """DQN's loss for expected values, also by autograd."""
    predicted = agent.policy(batch["obs"]).gather(1, batch["action"].unsqueeze(1))
    each = F.smooth_l1_loss(predicted, batch["target"], reduction="none").squeeze(1) * batch["share"].sum(1)
    return each.sum(), each.detach().sum(), (predicted.detach() - batch["target"]).squeeze(1)


class OneNode(torch.autograd.Function):
    """A perceptron. ``anchor`` is one of its parameters, so that autograd sees that the result depends on them."""

    @staticmethod
    def forward(ctx: Any, perceptron: Any, x: Tensor, anchor: Tensor) -> Tensor:
        ctx.perceptron, ctx.tape, ctx.views = perceptron, [], perceptron.views()
        return perceptron.forward(x, ctx.tape, ctx.views)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        ctx.perceptron.backward(grad, ctx.tape, ctx.views)
        return None, None, None


def as_one_node(perceptron: Any, x: Tensor) -> Tensor:
    """Replaces ``Perceptron.__call__``."""
    if not manual_grad.fit(x, perceptron):
        raise RuntimeError("This network cannot be one node.")
    if not torch.is_grad_enabled():
        return perceptron.forward(x, None, perceptron.views())
    return OneNode.apply(perceptron, x, perceptron.links[-1].own["weight"])


def onednn(x: Tensor, y: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """``x y^T + bias`` by an operation of torch's own compiler; ``then`` may be ``tanh``."""
    return torch.ops.mkldnn._linear_pointwise.default(x, y, bias, then, [], "")


def tanh(x: Tensor) -> Tensor:
    """Computes tanh from the logistic function; overwrites x."""
    return torch.rsub(x.mul_(2).sigmoid_(), -1, alpha=-2)


def links_by_onednn(with_tanh: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``LinearLink.forward`` and ``backward`` with large products by oneDNN."""
    forward, backward = manual_grad.LinearLink.forward, manual_grad.LinearLink.backward

    def much(weight: Tensor, x: Tensor) -> bool:
        return weight.dim() == 2 and len(x) * weight.numel() >= ROWS

    def by_onednn(link: Any, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        if not much(views[0], x):
            return forward(link, x, tape, views)
        y = onednn(x, views[0], link.own["bias"].detach(), "tanh" if link.tanh and with_tanh else "none")
        y = tanh(y) if link.tanh and not with_tanh else y
        if tape is not None:
            tape += (x, y) if link.tanh else (x,)
        return y

    def back(link: Any, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        if first or not much(views[0], grad):
            return backward(link, grad, tape, first, views)
        slope = torch.ops.aten.tanh_backward(grad, tape[-1]) if link.tanh else grad
        backward(link, grad, tape, True, views)
        return onednn(slope, views[1])

    return by_onednn, back
