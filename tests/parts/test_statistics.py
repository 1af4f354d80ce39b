"""Statistics over runs: against values computed by hand and, where it is installed, the paper's own library."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from rltrain.evaluation.statistics import (
    interval,
    iqm,
    iqm_band,
    iqm_of_tasks,
    performance_profile,
    probability_of_improvement,
    profile_band,
)


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([7], 7),
        ([1, 2, 9], 4),  # nothing is left out of three
        ([100, 2, 4, 0], 3),  # one of four at each end
        ([0, 1, 2, 3, 1000], 2),
        ([-50, 1, 2, 3, 4, 5, 6, 90], 3.5),  # two of eight
    ],
)
def test_the_interquartile_mean_is_that_of_the_middle_half(scores: list[float], mean: float) -> None:
    assert iqm(scores) == pytest.approx(mean)
    assert iqm_of_tasks([scores[:1], scores[1:]]) == pytest.approx(mean)
    np.testing.assert_allclose(iqm(np.array([scores, scores]), axis=1), [mean, mean])


def test_ties_count_half_in_the_probability_of_improvement() -> None:
    # Of the 6 pairs the second is higher in (1, 2), (1, 3), (2, 3) and ties in (2, 2).
    assert probability_of_improvement([[1, 2, 5]], [[2, 3]]) == pytest.approx((3 + 0.5) / 6)
    assert probability_of_improvement([[2, 3]], [[1, 2, 5]]) == pytest.approx(1 - 3.5 / 6)
    # Environments count alike, however many runs each has.
    assert probability_of_improvement([[0], [1, 1, 1]], [[1], [0, 0, 0]]) == pytest.approx(0.5)


def test_a_profile_is_the_share_of_runs_above_a_threshold() -> None:
    np.testing.assert_allclose(performance_profile([1, 2, 2, 5], [0, 1, 2, 4.9, 5]), [1, 0.75, 0.25, 0.25, 0])


def exact_percentiles(values: list[float]) -> tuple[float, float]:
    """The percentiles that the bootstrap tends to, of all draws that are possible."""
    low, high = np.percentile(np.repeat(values, 1000), [2.5, 97.5])
    return float(low), float(high)


def test_the_bootstrap_tends_to_the_interval_over_all_possible_draws() -> None:
    scores = [3.0, 10.0, 11.0, 40.0]
    exact = exact_percentiles([float(iqm(draw)) for draw in product(scores, repeat=4)])
    assert interval(iqm_of_tasks, [scores]) == pytest.approx(exact, abs=0.8)
    (low,), (high,) = iqm_band(np.array(scores)[:, None])
    assert (low, high) == pytest.approx(exact, abs=0.8)


def test_the_bootstrap_draws_within_each_environment() -> None:
    """Each draw has one score of about 0 and one of about 100, never two of the same environment."""
    low, high = interval(iqm_of_tasks, [[0.0, 2.0], [100.0, 102.0]])
    assert (low, high) == (50, 52)


def test_both_groups_are_drawn_independently() -> None:
    first, second = [0.0, 10.0], [5.0, 15.0]
    every = [
        probability_of_improvement([one], [two])
        for one, two in product(product(first, repeat=2), product(second, repeat=2))
    ]
    assert interval(probability_of_improvement, [first], [second]) == pytest.approx(exact_percentiles(every), abs=0.01)


def test_a_band_has_the_same_runs_at_all_points() -> None:
    """Curves that run parallel have a band that is as wide everywhere, however its points are cut into pieces."""
    curves = np.array([[0.0], [1.0], [2.0], [5.0]]) + np.linspace(0, 9, 2_500)
    low, high = iqm_band(curves)
    np.testing.assert_allclose(high - low, high[0] - low[0])
    assert 0 <= low[0] < 1.5 < high[0] <= 5


def test_a_profile_band_holds_the_profile() -> None:
    scores, at = np.arange(10.0), np.linspace(-1, 10, 50)
    low, high = profile_band(scores, at)
    profile = performance_profile(scores, at)
    assert (low <= profile).all()
    assert (profile <= high).all()
    assert (low[0], high[0], low[-1], high[-1]) == (1, 1, 0, 0)


def test_it_agrees_with_rliable() -> None:
    library = pytest.importorskip("rliable.library", reason="rliable, which is the paper's own, is not installed")
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(1)
    first, second = rng.normal(0, 1, (7, 3)), rng.normal(0.5, 1, (7, 3))  # runs, environments
    assert iqm_of_tasks(first.T) == pytest.approx(metrics.aggregate_iqm(first))
    ours = probability_of_improvement(list(second.T), list(first.T))
    assert ours == pytest.approx(metrics.probability_of_improvement(first, second))
    at = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(
        performance_profile(first.T, at).mean(0), [library.run_score_deviation(first, tau) for tau in at]
    )
