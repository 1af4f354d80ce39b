"""PPO's objective on one minibatch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.policy import ActorCritic


def ppo_loss(
    policy: ActorCritic,
    batch: Mapping[str, Any],
    config: PPOConfig,
    clip_range: float,
    clip_range_vf: float | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of Schulman et al. (2017), arXiv:1707.06347, equation 9, to be minimised.

    Args:
        policy: The networks being trained.
        batch: Rows of ``obs`` (B, *O), ``raw`` actions, and (B,) each: ``log_prob`` and ``value`` from
            before the update, ``advantage``, ``returns``.
        config: Coefficients.
        clip_range: Epsilon of equation 7.
        clip_range_vf: Bound on the change of the value; None for none.

    Returns:
        The loss, 0-d with gradient, and metrics by TensorBoard tag, 0-d without.
    """
    params, value = policy(batch["obs"])
    log_prob, entropy = policy.distribution.log_prob_entropy(params, batch["raw"])

    advantage = batch["advantage"]
    if config.normalize_advantage and advantage.shape[0] > 1:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

    log_ratio = log_prob - batch["log_prob"]
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    policy_loss = -torch.minimum(advantage * ratio, advantage * clipped).mean()

    if clip_range_vf is not None:
        old = batch["value"]
        value = old + (value - old).clamp(-clip_range_vf, clip_range_vf)
    value_loss = (batch["returns"] - value).square().mean()
    entropy_loss = -entropy.mean()
    loss = policy_loss + config.vf_coef * value_loss
    if config.ent_coef:  # without a bonus nothing is differentiated through the entropy
        loss = loss + config.ent_coef * entropy_loss

    with torch.no_grad():
        # Schulman (2020), "Approximating KL Divergence", the estimator k3
        approx_kl = (ratio - 1.0 - log_ratio).mean()
        clip_fraction = ((ratio - 1.0).abs() > clip_range).to(ratio.dtype).mean()
    metrics = {
        "train/policy_gradient_loss": policy_loss.detach(),
        "train/value_loss": value_loss.detach(),
        "train/entropy_loss": entropy_loss.detach(),
        "train/loss": loss.detach(),
        "train/approx_kl": approx_kl,
        "train/clip_fraction": clip_fraction,
    }
    return loss, metrics
