"""PPO's objective on one minibatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rltrain.agents.parts.distributions import Distribution
from rltrain.agents.parts.optim import grad_of
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.policy import ActorCritic
from rltrain.devices import statistics_dtype


class Rows(NamedTuple):
    """Per-row terms of the loss, each (..., B) and without a gradient."""

    surrogate: Tensor  # objective of equation 7
    error: Tensor  # of the value
    entropy: Tensor
    log_ratio: Tensor  # logarithm of the probability now over that before the update


def ppo_loss(
    policy: ActorCritic,
    batch: Mapping[str, Any],
    config: PPOConfig,
    clip_range: float | Tensor,
    clip_range_vf: float | Tensor | None,
    teacher_coef: float | Tensor = 0.0,
) -> tuple[Tensor | None, Rows]:
    """The loss of Schulman et al. (2017), arXiv:1707.06347, equation 9, to be minimised, and its gradient.

    The gradient of the network outputs is hand-written, see :mod:`~rltrain.agents.parts.manual_grad`.

    Args:
        policy: The networks being trained, or K of them with stacked parameters.
        batch: Rows of ``obs`` (..., B, *O), ``raw`` actions, and (..., B) each: ``log_prob`` and ``value`` from
            before the update (the value only if it is clipped), ``advantage``, ``returns``; with a teacher, ``taught``,
            the raw actions that it would take.
        config: Coefficients.
        clip_range: Epsilon of equation 7.
        clip_range_vf: Bound on the change of the value; None for none.
        teacher_coef: Weight of the cross-entropy with ``taught``.

    Returns:
        A scalar to differentiate, or None if the gradients are already in place, and the per-row terms of the loss.
    """
    (params, value), back = policy.evaluate(batch["obs"])
    distribution, raw = policy.distribution, batch["raw"]
    with torch.no_grad():
        log_prob, entropy = distribution.log_prob_entropy(params, raw)
        advantage = normalized(batch["advantage"]) if config.normalize_advantage else batch["advantage"]
        rows = advantage.shape[-1]

        log_ratio = log_prob - batch["log_prob"]
        # min(A r, A clip(r, 1 - eps, 1 + eps)) of equation 7 in fewer operations: the clip is only an upper bound.
        free, bound = advantage * log_ratio.exp(), advantage + clip_range * advantage.abs()
        surrogate = torch.minimum(free, bound)
        slope = (surrogate / -rows).masked_fill_(bound < free, 0.0)  # dr / d log r = r; the bound has no gradient
        by_params = distribution.backward(params, raw, slope, -config.ent_coef / rows)
        if "taught" in batch:
            by_params += imitation(distribution, params, batch["taught"], teacher_coef)

        error = value - batch["returns"]
        slope = error
        if clip_range_vf is not None:
            change = value - batch["value"]
            bounded = change.clamp(-clip_range_vf, clip_range_vf)
            error = error + (bounded - change)
            slope = error.masked_fill(bounded != change, 0.0)
        by_value = slope * (2.0 * config.vf_coef / rows)
    scalar = back(by_params, by_value)
    if scalar is not None:  # differentiating it overwrites the gradients that are already in place
        own = [(parameter * grad_of(parameter).clone()).sum() for parameter in distribution.parameters()]
        scalar = torch.stack([scalar, *own]).sum()
    return scalar, Rows(surrogate, error, entropy, log_ratio)


def imitation(distribution: Distribution, params: Tensor, taught: Tensor, coef: float | Tensor) -> Tensor:
    """The gradient of ``-coef * mean(log_prob(taught))`` by ``params`` (..., B, P).

    That by the distribution's own parameters is added to their ``grad``.
    """
    own = [(parameter, grad_of(parameter).clone()) for parameter in distribution.parameters()]
    slope = torch.ones_like(params[..., 0]) * (-coef / params.shape[-2])
    by_params = distribution.backward(params, taught, slope, 0.0)
    for parameter, before in own:
        grad_of(parameter).add_(before)
    return by_params


def normalized(advantage: Tensor) -> Tensor:
    """Advantages (..., B) of mean 0 and deviation 1 along the last dimension; a single one is left as it is."""
    rows = advantage.shape[-1]
    if rows == 1:
        return advantage
    # layer_norm uses the deviation without Bessel's correction. Advantages that are all the same become 0.
    return torch.layer_norm(advantage, (rows,), eps=1e-16) * math.sqrt((rows - 1) / rows)


def normalized_across(
    minibatches: Iterable[dict[str, Any]], reduce: Callable[[Tensor], Tensor], ranks: int
) -> list[dict[str, Any]]:
    """Minibatches with advantages (B,) of mean 0 and deviation 1 over all ranks, each of which has a part of them.

    The ranks communicate once for all minibatches. The variance is a difference of sums, which are therefore float64 if
    the device supports it.
    """
    parts = list(minibatches)
    advantages = [part["advantage"].to(statistics_dtype(part["advantage"].device)) for part in parts]
    sums = [torch.stack((each.mean(), each.square().mean())) for each in advantages]
    moments = reduce(torch.stack(sums)).unbind()
    for part, advantage, (mean, square) in zip(parts, advantages, moments, strict=True):
        size = ranks * advantage.shape[0]
        deviation = ((square - mean.square()) * (size / (size - 1))).clamp(min=0.0).sqrt()
        part["advantage"] = ((advantage - mean) / (deviation + 1e-8)).to(part["advantage"].dtype)
    return parts


def approx_kl(log_ratio: Tensor) -> Tensor:
    """The estimator k3 of the KL divergence, (..., B) to (...): Schulman (2020), "Approximating KL Divergence"."""
    return (log_ratio.exp() - 1.0 - log_ratio).mean(-1)


class Terms:
    """Means over the rows of each minibatch, computed for many minibatches at once.

    Args:
        clip_range: As in :func:`ppo_loss`.
    """

    def __init__(self, clip_range: float | Tensor) -> None:
        self.clip_range = clip_range
        self.waiting: list[Rows] = []
        self.means: list[Tensor] = []

    def add(self, rows: Rows) -> None:
        """Adds a minibatch."""
        if self.waiting:
            size, new = self.waiting[0].error.shape, rows.error.shape
            if size != new or len(self.waiting) * size.numel() >= AT_ONCE:
                self._take_means()
        self.waiting.append(rows)

    def result(self) -> Tensor:
        """The means (5, minibatches, ...).

        They are those of the surrogate objective, the squared error of the value, the entropy, the estimated KL
        divergence, and whether the ratio was clipped.
        """
        if self.waiting:
            self._take_means()
        return self.means[0] if len(self.means) == 1 else torch.cat(self.means, 1)

    def _take_means(self) -> None:
        surrogate, error, entropy, log_ratio = (torch.stack(each) for each in zip(*self.waiting, strict=True))
        change = log_ratio.exp() - 1.0
        clipped = (change.abs() > self.clip_range).to(change.dtype)
        self.means.append(torch.stack([surrogate, error.square(), entropy, change - log_ratio, clipped]).mean(-1))
        self.waiting = []


AT_ONCE = 65_536  # rows


def metrics_of(terms: Tensor, config: PPOConfig) -> dict[str, Tensor]:
    """The terms (5, ...) by TensorBoard tag, and the loss computed from them."""
    surrogate, square, entropy, kl, clip_fraction = terms.unbind()
    return {
        "train/policy_gradient_loss": -surrogate,
        "train/value_loss": square,
        "train/entropy_loss": -entropy,
        "train/loss": config.vf_coef * square - surrogate - config.ent_coef * entropy,
        "train/approx_kl": kl,
        "train/clip_fraction": clip_fraction,
    }
