"""Episode statistics compared with a deque, and means for the log."""

from __future__ import annotations

import random
from collections import deque
from statistics import fmean

import pytest
import torch

from rltrain.check.op_counter import waits_of
from rltrain.training.metrics import EpisodeStats, MetricMeans, fetch
from rltrain.vec import SUCCESS, VecStep

CPU = torch.device("cpu")


def random_step(n: int, rng: random.Random, ends: float, success: bool) -> tuple[VecStep, list[tuple[float, ...]]]:
    """A step, and the episodes that ended in it in the order of the rows."""
    rows = [
        (
            rng.random() < ends,
            rng.random() < ends / 2,
            rng.uniform(-5, 5),
            rng.randint(1, 500),
            float(rng.random() < 0.3),
        )
        for _ in range(n)
    ]
    terminated, truncated, returns, lengths, successes = (torch.tensor(column) for column in zip(*rows, strict=True))
    info = {SUCCESS: successes.bool()} if success else {}
    obs = torch.zeros(n, 1)
    step = VecStep(obs, torch.zeros(n), terminated, truncated & ~terminated, obs, returns, lengths, info)
    return step, [row[2:] for row in rows if row[0] or row[1]]


@pytest.mark.parametrize("success", [False, True], ids=["", "success"])
@pytest.mark.parametrize(
    ("n", "window", "horizon", "ends"),
    [(5, 100, 7, 0.15), (37, 8, 7, 0.3), (37, 8, 1, 1.0), (1, 3, 4, 0.5), (4, 1, 3, 0.5), (6, 6, 2, 1.0)],
)
def test_the_window_is_a_deque(n: int, window: int, horizon: int, ends: float, success: bool) -> None:
    rng = random.Random(n + window)
    stats, reference, episodes = EpisodeStats(window, horizon, n, CPU), deque(maxlen=window), 0
    for _ in range(30):
        for _ in range(horizon):
            step, ended = random_step(n, rng, ends, success)
            stats.note(step)
            reference.extend(ended)
            episodes += len(ended)
        stats.merge()
        means = fetch(stats.means())
        assert means["rollout/episodes"] == episodes
        if not reference:
            assert set(means) == {"rollout/episodes"}
            continue
        returns, lengths, successes = zip(*reference, strict=True)
        assert means["rollout/ep_rew_mean"] == pytest.approx(fmean(returns), abs=1e-5)
        assert means["rollout/ep_len_mean"] == pytest.approx(fmean(lengths), rel=1e-6)
        if success:
            assert means["rollout/success_rate"] == pytest.approx(fmean(successes), abs=1e-6)
        else:
            assert "rollout/success_rate" not in means
    assert episodes > window


def test_an_unfinished_rollout_can_be_merged() -> None:
    rng = random.Random(0)
    stats = EpisodeStats(10, 5, 3, CPU)
    step, ended = random_step(3, rng, 1.0, False)
    stats.note(step)
    stats.merge()
    assert fetch(stats.means())["rollout/ep_rew_mean"] == pytest.approx(fmean(row[0] for row in ended), abs=1e-5)


def test_noting_and_merging_never_wait() -> None:
    rng = random.Random(0)
    stats = EpisodeStats(10, 2, 4, CPU)
    steps = [random_step(4, rng, 0.5, True)[0] for _ in range(2)]

    def iteration() -> None:
        for step in steps:
            stats.note(step)
        stats.merge()
        stats.means()

    assert waits_of(iteration) == []
    assert waits_of(lambda: bool(stats.means()["rollout/episodes"] > 0)) != []


def test_statistics_go_on_from_their_state() -> None:
    rng = random.Random(0)
    stats, resumed = EpisodeStats(6, 1, 5, CPU), EpisodeStats(6, 1, 5, CPU)
    for turn in range(12):
        step, _ = random_step(5, rng, 0.4, True)
        if turn == 6:
            resumed.load_state_dict({name: value.clone() for name, value in stats.state_dict().items()})
        for each in (stats, resumed) if turn >= 6 else (stats,):
            each.note(step)
            each.merge()
    assert fetch(stats.means()) == fetch(resumed.means())


def test_means_over_the_updates_since_the_last_log_point() -> None:
    means = MetricMeans()
    assert means.take() == {}
    for value in (1.0, 2.0, 6.0):
        means.add({"train/a": torch.tensor(value), "train/b": torch.tensor(int(value))})
    assert fetch(means.take()) == {"train/a": 3.0, "train/b": 3.0}
    assert means.take() == {}
    means.add({"train/c": torch.tensor(5.0)})
    assert fetch(means.take()) == {"train/c": 5.0}


def test_means_go_on_from_their_state() -> None:
    means, resumed, empty = MetricMeans(), MetricMeans(), MetricMeans()
    means.add({"train/a": torch.tensor(1.0)})
    resumed.load_state_dict(means.state_dict())
    for each in (means, resumed):
        each.add({"train/a": torch.tensor(4.0)})
    assert fetch(means.take()) == fetch(resumed.take()) == {"train/a": 2.5}
    resumed.load_state_dict(empty.state_dict())
    assert resumed.take() == {}


def test_numbers_are_the_last_ones_and_need_no_tensors() -> None:
    """An agent that has not begun to learn gives numbers alone."""
    means = MetricMeans()
    means.add({"rollout/exploration_rate": 1.0})
    assert fetch(means.take()) == {"rollout/exploration_rate": 1.0}
    means.add({"rollout/exploration_rate": 0.9})
    means.add({"rollout/exploration_rate": 0.8, "train/loss": torch.tensor(4.0)})
    resumed = MetricMeans()
    resumed.load_state_dict(means.state_dict())
    for each in (means, resumed):
        each.add({"rollout/exploration_rate": 0.7, "train/loss": torch.tensor(2.0)})
        assert fetch(each.take()) == {"rollout/exploration_rate": 0.7, "train/loss": 3.0}
        assert each.take() == {}


def test_fetch_leaves_out_what_there_is_no_data_for() -> None:
    nan = torch.tensor(torch.nan)
    metrics = {"rollout/x": nan, "train/loss": nan, "rollout/n": torch.tensor(2**40), "eval/y": torch.tensor(0.5)}
    fetched = fetch(metrics)
    assert set(fetched) == {"train/loss", "rollout/n", "eval/y"}  # a NaN loss must be seen
    assert fetched["train/loss"] != fetched["train/loss"]
    assert fetched["rollout/n"] == 2**40
    assert all(type(value) is float for value in fetched.values())
    assert fetch({}) == {}
