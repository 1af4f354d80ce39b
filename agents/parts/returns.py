"""Estimates of returns and advantages over a rollout. Every argument is (T, N), with time first."""

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

    After a termination there is no future value: the bootstrap is replaced by zero, not multiplied by it, so that a NaN
    there does not spread. After a truncation, the bootstrap is the value of the last observation of the episode, not of
    the first one of the next. No advantage passes from one episode to the one before it.

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
    """Lambda returns, which mix the n-step returns of all n: Gallici et al. (2024), arXiv:2407.04811, equation 2.

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
    """y[t] = x[t] + decay[t] y[t + 1]; overwrites x."""
    rows, decays = x.unbind(), decay.unbind()
    for t in range(len(rows) - 2, -1, -1):
        rows[t].addcmul_(decays[t], rows[t + 1])
    return x
