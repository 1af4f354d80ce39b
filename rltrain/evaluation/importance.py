"""Importance sampling: the value of a policy from episodes of another one, by how likely each would take the actions.

Precup, Sutton and Singh (2000), "Eligibility Traces for Off-Policy Policy Evaluation"; the weighted estimate by
decision is that of Thomas (2015), "Safe Reinforcement Learning", section 3.7.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rltrain.evaluation.statistics import LEVEL, Interval

RESAMPLES = 2_000
CHUNK = 8_000_000
"""Numbers of a bootstrap that are held at a time."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its bootstrap interval.

    Attributes:
        value: The expected discounted return.
        interval: Of 95%, by percentiles, the episodes drawn again.
    """

    value: float
    interval: Interval


def padded(values: Array, lengths: NDArray[np.int64], fill: float = 0.0) -> Array:
    """Values of steps (S,) as episodes (E, T), T being the length of the longest, filled up."""
    table = np.full((len(lengths), int(lengths.max())), fill)
    table[np.arange(table.shape[1]) < lengths[:, None]] = values
    return table


def importance_estimates(
    log_ratios: Array, rewards: Array, lengths: NDArray[np.int64], gamma: float, *, seed: int = 0
) -> tuple[dict[str, Estimate], float]:
    """The value of a policy by four estimators, each with its interval.

    Args:
        log_ratios: (S,) for each step of all episodes, one after another: the logarithm of how much likelier the policy
            takes the action than the one that took it; minus infinity if it never would.
        rewards: (S,).
        lengths: (E,) steps of each episode.
        gamma: Discount factor.
        seed: Seed of the bootstrap.

    Returns:
        By name: ``is``, the mean of returns times the product of the ratios of their episode; ``wis``, the same divided
        by the mean weight; ``pdis``, rewards times the product up to their step; ``wpdis``, these divided by the mean
        weight of their step. And the effective number of episodes, (sum of weights)^2 / (sum of their squares).
    """
    weights = np.exp(np.cumsum(padded(log_ratios, lengths), 1))  # (E, T), that of the last step after the end
    discounted = padded(rewards, lengths) * gamma ** np.arange(weights.shape[1])
    last, returns = weights[:, -1], discounted.sum(1)
    by_step = weights * discounted

    def all_of(counts: Array) -> Array:
        """The four estimates (R, 4) of samples that have each episode so often, (R, E)."""
        episodes, total = counts.sum(1), counts @ last
        weighted = counts @ (last * returns)
        steps, step_weights = counts @ by_step, counts @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            columns = (
                weighted / episodes,
                np.where(total > 0, weighted / total, np.nan),
                steps.sum(1) / episodes,
                np.where(step_weights > 0, steps / step_weights, 0.0).sum(1),
            )
        return np.stack(columns, 1)

    once = all_of(np.ones((1, len(lengths))))[0]
    drawn = np.concatenate([all_of(counts) for counts in resampled_counts(len(lengths), weights.shape[1], seed)])
    names = "is", "wis", "pdis", "wpdis"
    estimates = {name: Estimate(float(once[k]), interval_of(drawn[:, k])) for k, name in enumerate(names)}
    squares = float(np.square(last).sum())
    return estimates, float(last.sum()) ** 2 / squares if squares > 0 else 0.0


def mean_return(rewards: Array, lengths: NDArray[np.int64], gamma: float, *, seed: int = 0) -> Estimate:
    """The mean discounted return of the episodes themselves."""
    returns = (padded(rewards, lengths) * gamma ** np.arange(int(lengths.max()))).sum(1)
    drawn = [counts @ returns / len(returns) for counts in resampled_counts(len(lengths), 1, seed)]
    return Estimate(float(returns.mean()), interval_of(np.concatenate(drawn)))


def resampled_counts(episodes: int, steps: int, seed: int) -> Iterator[Array]:
    """How often each episode is in samples drawn with replacement, (R, E) at a time, as fits into memory."""
    rng, chances = np.random.default_rng(seed), np.full(episodes, 1.0 / episodes)
    at_once = max(1, CHUNK // (episodes + 2 * steps))
    for first in range(0, RESAMPLES, at_once):
        yield rng.multinomial(episodes, chances, min(at_once, RESAMPLES - first)).astype(np.float64)


def interval_of(drawn: Array) -> Interval:
    """The percentiles of estimates of drawn samples; NaN where there are none."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return float("nan"), float("nan")
    low, high = np.percentile(drawn, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return float(low), float(high)
