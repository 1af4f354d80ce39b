"""Importance sampling: the estimators against loops, and against values that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rltrain.evaluation.importance import importance_estimates, mean_return, padded


def test_estimates_are_those_of_loops() -> None:
    rng, lengths, gamma = np.random.default_rng(0), np.array([3, 1, 4]), 0.9
    ratios, rewards = rng.normal(size=8), rng.normal(size=8)
    ratios[3] = -math.inf  # an episode that the policy would never have played
    found, effective = importance_estimates(ratios, rewards, lengths, gamma)
    firsts = [0, 3, 4]
    products = [[math.exp(sum(ratios[f : f + t + 1])) for t in range(n)] for f, n in zip(firsts, lengths, strict=True)]
    returns = [sum(gamma**t * rewards[f + t] for t in range(n)) for f, n in zip(firsts, lengths, strict=True)]
    last = [row[-1] for row in products]
    whole = sum(w * g for w, g in zip(last, returns, strict=True))
    assert found["is"].value == pytest.approx(whole / 3)
    assert found["wis"].value == pytest.approx(whole / sum(last))
    by_step = [
        [gamma**t * row[t] * rewards[f + t] for t in range(n)]
        for f, n, row in zip(firsts, lengths, products, strict=True)
    ]
    assert found["pdis"].value == pytest.approx(sum(map(sum, by_step)) / 3)
    weighted = 0.0
    for t in range(4):
        weighted += sum(row[t] for row in by_step if t < len(row)) / sum(row[min(t, len(row) - 1)] for row in products)
    assert found["wpdis"].value == pytest.approx(weighted)
    assert effective == pytest.approx(sum(last) ** 2 / sum(w * w for w in last))


def test_the_same_policy_earns_what_the_data_have() -> None:
    rng, lengths = np.random.default_rng(1), np.array([2, 5, 3, 4] * 20)
    rewards = rng.normal(size=int(lengths.sum()))
    found, effective = importance_estimates(np.zeros(len(rewards)), rewards, lengths, 0.95)
    mean = mean_return(rewards, lengths, 0.95)
    for each in found.values():
        assert each.value == pytest.approx(mean.value)
        assert each.interval[0] < mean.value < each.interval[1]
    assert effective == pytest.approx(len(lengths))


def test_a_policy_that_never_acts_like_the_data_has_no_weighted_estimate() -> None:
    found, effective = importance_estimates(np.full(4, -np.inf), np.ones(4), np.array([2, 2]), 0.9)
    assert found["is"].value == 0.0
    assert math.isnan(found["wis"].value)
    assert all(map(math.isnan, found["wis"].interval))
    assert effective == 0.0


def test_intervals_hold_what_they_say() -> None:
    """Of 200 sets of coin flips, whose value under another coin is known, 95% of the intervals should hold it."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        flips = rng.integers(2, size=100)  # reward 1 for heads, from a fair coin
        ratios = np.log(np.where(flips == 1, 0.7 / 0.5, 0.3 / 0.5))
        found, _ = importance_estimates(ratios, flips.astype(float), np.ones(100, np.int64), 0.9)
        low, high = found["is"].interval
        held += low <= 0.7 <= high
    assert 0.88 < held / 200 <= 1.0


def test_steps_are_filled_up_by_episode() -> None:
    assert padded(np.arange(1.0, 5.0), np.array([1, 3])).tolist() == [[1, 0, 0], [2, 3, 4]]
