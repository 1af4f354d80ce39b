"""Statistics of scores over several runs, by the definitions of Agarwal et al. (2021), arXiv:2108.13264.

Scores come as one array for each environment, with a number for each run. Intervals are percentiles of a stratified
bootstrap: the runs of each environment are drawn again with replacement, independently of other environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

RESAMPLES = 2_000
"""How often the runs are drawn again for an interval; the paper's code draws as often for curves."""
LEVEL = 0.95
CHUNK = 4_000_000
"""Numbers that a bootstrap of curves holds at a time."""


def iqm(scores: ArrayLike, axis: int = 0) -> Array:
    """Interquartile mean: of the scores without the lowest and the highest quarter, section 4.3 of the paper.

    Of n scores, n // 4 are left out at each end, so that of three or fewer none is.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    n = ordered.shape[axis]
    middle = np.take(ordered, np.arange(n // 4, n - n // 4), axis=axis)
    return np.asarray(middle.mean(axis))


def iqm_of_tasks(tasks: Sequence[ArrayLike]) -> float:
    """Interquartile mean over the scores of all environments together, which must have one scale."""
    return float(iqm(np.concatenate([np.asarray(task, dtype=np.float64) for task in tasks])))


def iqm_band(curves: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Array, Array]:
    """The ends of the bootstrap interval of the interquartile mean at each point of curves.

    Args:
        curves: (n, k): k points of each of n runs.
        resamples: How often runs are drawn again; each time the same ones at all points.
        seed: Seed of the drawing.

    Returns:
        The lower and the upper end, (k,) each.
    """
    n, k = curves.shape
    drawn = np.random.default_rng(seed).integers(n, size=(resamples, n))
    low, high = np.empty(k), np.empty(k)
    step = max(1, CHUNK // (resamples * n))
    for start in range(0, k, step):
        means = iqm(curves[drawn, start : start + step], axis=1)  # (resamples, step)
        low[start : start + step], high[start : start + step] = np.percentile(means, _ENDS, axis=0)
    return low, high


def resampled_means(values: ArrayLike, resamples: int = 10_000) -> Array:
    """Means of samples drawn from numbers with replacement, (resamples,); always the same ones."""
    array = np.asarray(values)
    return np.asarray(array[np.random.default_rng(0).integers(len(array), size=(resamples, len(array)))].mean(1))


def mean_interval(values: ArrayLike, resamples: int = 10_000) -> Interval:
    """Bootstrap interval of the mean of numbers, such as the returns of one policy's episodes."""
    low, high = np.percentile(resampled_means(values, resamples), _ENDS)
    return float(low), float(high)


def interval(
    statistic: Callable[..., float], *groups: Sequence[ArrayLike], resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Stratified bootstrap interval of a statistic.

    Args:
        statistic: A function of as many lists of scores, one array for each environment, as there are groups.
        *groups: The scores of each group, whose runs are drawn independently of those of the others.
        resamples: How often runs are drawn again.
        seed: Seed of the drawing.
    """
    rng = np.random.default_rng(seed)
    arrays = [[np.asarray(task, dtype=np.float64) for task in group] for group in groups]
    values = [
        statistic(*([task[rng.integers(len(task), size=len(task))] for task in group] for group in arrays))
        for _ in range(resamples)
    ]
    low, high = np.percentile(values, _ENDS)
    return float(low), float(high)


def probability_of_improvement(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> float:
    """How likely a run of the second group scores higher than one of the first, on an environment taken at random.

    Ties count half. It is the Mann-Whitney statistic divided by the number of pairs, averaged over the environments:
    section 4.3 of the paper.

    Args:
        first: Scores of the first group, one array for each environment.
        second: Scores of the second group in the same environments, in the same order.
    """
    shares = []
    for before, after in zip(first, second, strict=True):
        difference = np.asarray(after, dtype=np.float64)[:, None] - np.asarray(before, dtype=np.float64)[None, :]
        shares.append(float((difference > 0).mean() + 0.5 * (difference == 0).mean()))
    return float(np.mean(shares))


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Array:
    """Share of the runs that score more than each threshold: section 4.2 of the paper.

    Args:
        scores: (..., n): a score of each of n runs.
        thresholds: (k,).

    Returns:
        (..., k).
    """
    values = np.asarray(scores, dtype=np.float64)
    return np.asarray((values[..., :, None] > np.asarray(thresholds, dtype=np.float64)).mean(-2))


def profile_band(scores: Array, thresholds: Array, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Array, Array]:
    """The ends of the bootstrap interval of a performance profile at each threshold.

    Args:
        scores: (n,): a score of each run.
        thresholds: (k,).
        resamples: How often runs are drawn again.
        seed: Seed of the drawing.

    Returns:
        The lower and the upper end, (k,) each.
    """
    drawn = np.random.default_rng(seed).integers(len(scores), size=(resamples, len(scores)))
    low, high = np.percentile(performance_profile(scores[drawn], thresholds), _ENDS, axis=0)
    return low, high


_ENDS = (50 * (1 - LEVEL), 50 * (1 + LEVEL))  # percentiles
