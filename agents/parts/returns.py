"""Estimates of return and advantage over a rollout, time first: every argument is (T, N)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def generalized_advantage(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimation, Schulman et al. (2016), arXiv:1506.02438, equations 11 and 16.

    A terminated episode has no future: its bootstrap is replaced, not multiplied, by zero, so that a NaN
    there cannot get through. A truncated one goes on where nobody looks: it bootstraps from what the step
    really led to. Neither passes advantage on to the episode before it.

    Args:
        reward: (T, N) rewards.
        value: (T, N) V of the observation acted upon.
        next_value: (T, N) V of ``final_obs``, what the action led to.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount factor.
        gae_lambda: 0 for one-step advantages, 1 for Monte Carlo.

    Returns:
        Advantages (T, N).
    """
    delta = reward + gamma * next_value.masked_fill(terminated, 0.0) - value
    decay = torch.full_like(delta, gamma * gae_lambda).masked_fill(terminated | truncated, 0.0)
    return _accumulated(delta, decay)


@torch.no_grad()
def lambda_returns(
    reward: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    q_lambda: float,
) -> Tensor:
    """Returns that mix those of all numbers of steps, Gallici et al. (2024), arXiv:2407.04811, equation 2.

    G[t] = r[t] + gamma (lambda G[t + 1] + (1 - lambda) next_value[t]) within an episode. Ends are treated as in
    :func:`generalized_advantage`.

    Args:
        reward: (T, N) rewards.
        next_value: (T, N) value of ``final_obs``, what the action led to.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount factor.
        q_lambda: 0 for one-step returns, 1 for the rewards of the whole rollout.

    Returns:
        Returns (T, N).
    """
    next_value = next_value.masked_fill(terminated, 0.0)
    decay = torch.full_like(reward, gamma * q_lambda).masked_fill(terminated | truncated, 0.0)
    returns = torch.add(reward, next_value, alpha=gamma)
    returns[:-1] -= decay[:-1] * next_value[:-1]
    return _accumulated(returns, decay)


def _accumulated(x: Tensor, decay: Tensor) -> Tensor:
    """y[t] = x[t] + decay[t] y[t + 1], in the place of x."""
    rows, decays = x.unbind(), decay.unbind()
    for t in range(len(rows) - 2, -1, -1):
        rows[t].addcmul_(decays[t], rows[t + 1])
    return x
