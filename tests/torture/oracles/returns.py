"""Advantages and returns."""

from __future__ import annotations

import numpy as np
import torch

from rltrain.agents.parts.returns import generalized_advantage, lambda_returns
from tests.torture.oracles.examples import Example, apart, ends_of


def advantages(example: Example, dtype: torch.dtype) -> float:
    """Schulman et al. (2016), equation 16."""
    rng, shape = example.rng(), (example.rows, example.columns)
    reward, value, after = (torch.tensor(example.size * rng.normal(size=shape), dtype=dtype) for _ in range(3))
    terminated, truncated = ends_of(example, rng, shape)
    after[terminated] = torch.nan
    ours = generalized_advantage(
        reward, value, after, terminated, truncated, gamma=example.gamma, gae_lambda=example.lambda_
    )
    r, v, n, ended, cut = (x.tolist() for x in (reward, value, after, terminated, truncated))
    theirs = np.zeros(shape)
    for i in range(example.columns):
        ahead = 0.0
        for t in reversed(range(example.rows)):
            future = 0.0 if ended[t][i] else example.gamma * n[t][i]
            ahead = 0.0 if ended[t][i] or cut[t][i] else example.gamma * example.lambda_ * ahead
            ahead += r[t][i] + future - v[t][i]
            theirs[t, i] = ahead
    return apart(ours, theirs)


def returns(example: Example, dtype: torch.dtype) -> float:
    """Gallici et al. (2024), equation 2."""
    rng, shape = example.rng(), (example.rows, example.columns)
    reward, after = (torch.tensor(example.size * rng.normal(size=shape), dtype=dtype) for _ in range(2))
    terminated, truncated = ends_of(example, rng, shape)
    after[terminated] = torch.nan
    ours = lambda_returns(reward, after, terminated, truncated, gamma=example.gamma, q_lambda=example.lambda_)
    r, n, ended, cut = (x.tolist() for x in (reward, after, terminated, truncated))
    theirs = np.zeros(shape)
    for i in range(example.columns):
        ahead = 0.0
        for t in reversed(range(example.rows)):
            if ended[t][i]:
                future = 0.0
            elif cut[t][i] or t == example.rows - 1:
                future = n[t][i]
            else:
                future = example.lambda_ * ahead + (1.0 - example.lambda_) * n[t][i]
            ahead = theirs[t, i] = r[t][i] + example.gamma * future
    return apart(ours, theirs)
