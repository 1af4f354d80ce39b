"""PPO's objective on one minibatch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from rltrain.agents.parts.manual_grad import Chain
from rltrain.agents.parts.networks import mask_logits
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.policy import ActorCritic
from rltrain.devices import statistics_dtype


def ppo_loss(
    policy: ActorCritic,
    batch: Mapping[str, Any],
    config: PPOConfig,
    clip_range: float | Tensor,
    clip_range_vf: float | Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The loss of Schulman et al. (2017), arXiv:1707.06347, equation 9, to be minimised.

    Args:
        policy: The networks being trained.
        batch: Rows of ``obs`` (B, *O), ``raw`` actions, and (B,) each: ``log_prob`` and ``value`` from
            before the update (the value only if it is clipped), ``advantage``, ``returns``.
        config: Coefficients.
        clip_range: Epsilon of equation 7.
        clip_range_vf: Bound on the change of the value; None for none.

    Returns:
        The loss, 0-d with gradient, and its terms (5,) without, see :func:`terms_of`.
    """
    params, value = policy(batch["obs"])
    log_prob, entropy = policy.distribution.log_prob_entropy(params, batch["raw"])
    advantage = normalized(batch["advantage"]) if config.normalize_advantage else batch["advantage"]

    log_ratio = log_prob - batch["log_prob"]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    surrogate = torch.minimum(advantage * ratio, advantage * clipped)
    if clip_range_vf is not None:
        old = batch["value"]
        value = old + (value - old).clamp(-clip_range_vf, clip_range_vf)
    error = value - batch["returns"]

    loss = config.vf_coef * error.square().mean() - surrogate.mean()
    if config.ent_coef:  # without a bonus nothing is differentiated through the entropy
        loss = loss - config.ent_coef * entropy.mean()
    with torch.no_grad():
        return loss, terms_of(surrogate, error, entropy, log_ratio, ratio, clipped)


def ppo_loss_backward(
    policy: ActorCritic,
    chains: tuple[Chain, Chain],
    batch: Mapping[str, Any],
    config: PPOConfig,
    clip_range: float | Tensor,
    clip_range_vf: float | Tensor | None,
) -> Tensor:
    """The terms (5,) that :func:`ppo_loss` gives; the gradients of its networks are in place afterwards.

    Of K policies whose parameters are stacked, with (K, B, ...) in the batch, (5, K).
    """
    (actor, critic), distribution, raw = chains, policy.distribution, batch["raw"]
    features = policy.encoder(batch["obs"])
    params, value = mask_logits(actor.forward(features), batch["obs"]), critic.forward(features).squeeze(-1)
    with torch.no_grad():
        log_prob, entropy = distribution.log_prob_entropy(params, raw)
    advantage = normalized(batch["advantage"]) if config.normalize_advantage else batch["advantage"]
    rows = advantage.shape[-1]

    log_ratio = log_prob - batch["log_prob"]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    free, bound = advantage * ratio, advantage * clipped
    surrogate = torch.minimum(free, bound)
    slope = (surrogate / -rows).masked_fill_(bound < free, 0.0)  # where it is the bound, it stays when the ratio moves
    actor.backward(distribution.backward(params, raw, slope, -config.ent_coef / rows))

    error = value - batch["returns"]
    if clip_range_vf is None:
        slope = error
    else:
        change = value - batch["value"]
        bounded = change.clamp(-clip_range_vf, clip_range_vf)
        error = error + (bounded - change)
        slope = error.masked_fill(bounded != change, 0.0)
    critic.backward((slope * (2.0 * config.vf_coef / rows)).unsqueeze(-1))
    return terms_of(surrogate, error, entropy, log_ratio, ratio, clipped)


def normalized(advantage: Tensor) -> Tensor:
    """Advantages (..., B) of mean 0 and deviation 1 along the last dimension; a single one is left as it is."""
    if advantage.shape[-1] == 1:
        return advantage
    centred = advantage - advantage.mean(-1, keepdim=True)
    size = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)  # ten times as fast as torch.std
    return centred / (size / math.sqrt(advantage.shape[-1] - 1) + 1e-8)


def normalized_across(
    minibatches: Iterable[dict[str, Any]], reduce: Callable[[Tensor], Tensor], ranks: int
) -> list[dict[str, Any]]:
    """Minibatches with advantages (B,) of mean 0 and deviation 1 over all ranks, each of which has a part of them.

    The ranks hear of each other once for all minibatches. The variance is a difference of
    sums, which are therefore float64 where the device has it.
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


def terms_of(
    surrogate: Tensor, error: Tensor, entropy: Tensor, log_ratio: Tensor, ratio: Tensor, clipped: Tensor
) -> Tensor:
    """What is to be known of a minibatch, each given (..., B).

    Returns:
        (5, ...) means of the surrogate objective, of the squared error of the value, of the entropy, of the estimator
        k3 of the KL divergence (Schulman 2020, "Approximating KL Divergence"), and of whether the ratio was clipped.
    """
    kl = ratio - 1.0 - log_ratio
    return torch.stack([surrogate, error.square(), entropy, kl, (ratio != clipped).to(kl.dtype)]).mean(-1)


KL = 3  # its place among the terms


def metrics_of(terms: Tensor, config: PPOConfig) -> dict[str, Tensor]:
    """The terms (5, ...) by TensorBoard tag, and the loss that is made of them."""
    surrogate, square, entropy, kl, clip_fraction = terms.unbind()
    return {
        "train/policy_gradient_loss": -surrogate,
        "train/value_loss": square,
        "train/entropy_loss": -entropy,
        "train/loss": config.vf_coef * square - surrogate - config.ent_coef * entropy,
        "train/approx_kl": kl,
        "train/clip_fraction": clip_fraction,
    }
