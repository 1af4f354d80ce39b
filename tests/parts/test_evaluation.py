"""Evaluation: a fixed quota of episodes per environment, and statistics of their returns."""

from __future__ import annotations

import itertools
import signal
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Actor, ActOut
from rltrain.cli.report import describe
from rltrain.env import TensorEnv
from rltrain.evaluation.episodes import Evaluation, run_episodes
from rltrain.evaluation.limits import Limits, make_limited
from rltrain.process import stopping
from rltrain.vec import TensorVecEnv


@dataclass
class HastyState:
    long: Tensor  # (N,) bool
    steps: Tensor  # (N,) int64


class Hasty(TensorEnv[HastyState]):
    """Half of the episodes last one step and are worth nothing, half last twelve and are worth 12."""

    def __init__(self, *, chance: float = 0.5, **base: Any) -> None:
        super().__init__(**base)
        self.chance = chance
        self.observation_space = spaces.Box(0.0, 12.0, (1,))
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> HastyState:
        long = torch.rand(n, generator=rng, device=self.device) < self.chance
        return HastyState(long, torch.zeros(n, dtype=torch.int64, device=self.device))

    def step(self, state: HastyState, action: Tensor, rng: torch.Generator | None) -> tuple[HastyState, Tensor, Tensor]:
        after = HastyState(state.long, state.steps + 1)
        reward = (state.long * action).to(self.dtype)
        return after, reward, after.steps >= torch.where(state.long, 12, 1)

    def observe(self, state: HastyState) -> Tensor:
        return state.steps.unsqueeze(-1).to(self.dtype)

    def info(self, state: HastyState) -> dict[str, Tensor]:
        return {"is_success": state.long}


class Ones(Actor):
    """Always 1, or a coin."""

    def choose(self, obs: Any, state: Any, *, deterministic: bool, rng: Any) -> ActOut:
        n = obs.shape[0]
        return ActOut(torch.ones(n, dtype=torch.int64) if deterministic else torch.randint(2, (n,), generator=rng))


def by_hand(n: int, episodes: int, seed: int) -> tuple[list[float], list[int]]:
    """The first episodes of every environment, row by row, kept in lists."""
    env = TensorVecEnv(Hasty(), n)
    env.reset(seed)
    quota = [episodes // n + (row < episodes % n) for row in range(n)]
    returns: list[list[float]] = [[] for _ in range(n)]
    lengths: list[list[int]] = [[] for _ in range(n)]
    while any(len(kept) < most for kept, most in zip(returns, quota, strict=True)):
        step = env.step(torch.ones(n, dtype=torch.int64))
        for row in range(n):
            if (step.terminated | step.truncated)[row] and len(returns[row]) < quota[row]:
                returns[row].append(step.episode_return[row].item())
                lengths[row].append(int(step.episode_length[row]))
    return [x for kept in returns for x in kept], [x for kept in lengths for x in kept]


@pytest.mark.parametrize(("n", "episodes"), [(1, 1), (1, 9), (4, 10), (16, 16), (16, 3), (7, 50)])
def test_every_environment_plays_its_quota(n: int, episodes: int) -> None:
    result = run_episodes(Ones(), TensorVecEnv(Hasty(), n), episodes, seed=n)
    returns, lengths = by_hand(n, episodes, seed=n)
    assert result.returns.tolist() == returns
    assert result.lengths.tolist() == lengths
    assert len(returns) == episodes
    assert result.successes.tolist() == [float(length == 12) for length in lengths]


def test_short_episodes_are_not_favoured() -> None:
    """The first 200 episodes to end are nearly all short ones: a mean over them would be far too low."""
    env = TensorVecEnv(Hasty(), 200)
    result = run_episodes(Ones(), env, 200, seed=1)
    assert result.mean_reward == pytest.approx(6.0, abs=4 * 6 / 200**0.5)

    env.reset(1)
    first: list[float] = []
    while len(first) < 200:
        step = env.step(torch.ones(200, dtype=torch.int64))
        first += step.episode_return[step.terminated].tolist()
    assert np.mean(first[:200]) < 1.0


def test_the_seed_decides_the_episodes() -> None:
    def returns(seed: int, **options: Any) -> list[float]:
        return run_episodes(Ones(), TensorVecEnv(Hasty(), 8), 40, seed=seed, **options).returns.tolist()

    assert returns(1) == returns(1) != returns(2)
    stochastic = returns(1, deterministic=False)
    assert stochastic == returns(1, deterministic=False)
    assert max(stochastic) < 12


def test_the_default_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    run_episodes(Ones(), TensorVecEnv(Hasty(), 8), 40, deterministic=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_success_only_where_the_environment_tells() -> None:
    class Silent(Hasty):
        def info(self, state: HastyState) -> dict[str, Tensor]:
            return {}

    told = run_episodes(Ones(), TensorVecEnv(Hasty(chance=1.0), 4), 8)
    spread = {"eval/std_reward": told.returns.std(), "eval/iqm_reward": 12.0}
    assert told.metrics() == {**spread, "eval/mean_reward": 12.0, "eval/mean_ep_length": 12.0, "eval/success_rate": 1.0}
    assert told.summary()["success_rate"] == 1.0
    silent = run_episodes(Ones(), TensorVecEnv(Silent(chance=1.0), 4), 8)
    assert set(silent.metrics()) == {*spread, "eval/mean_reward", "eval/mean_ep_length"}
    assert "success_rate" not in silent.summary()


class Endless(Hasty):
    """Every step is worth 1 in half of the episodes, and none of them ends."""

    def step(self, state: HastyState, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, _ = super().step(state, action, rng)
        return after, reward, torch.zeros_like(state.long)


def test_episodes_that_never_end_are_cut_short_and_reported() -> None:
    result = run_episodes(Ones(), TensorVecEnv(Endless(chance=1.0), 2), 6, limits=Limits(steps=100))
    assert result.lengths.tolist() == [100, 100]  # each environment goes on in its first episode
    assert result.returns.tolist() == [100.0, 100.0]
    assert (result.cut_short, result.missing) == (2, 4)
    assert {"cut_short": 2, "missing": 4}.items() <= result.summary().items()
    assert "2 of them cut short after 100 steps at most; time was up before 4 more" in describe(result)


def test_environments_without_a_limit_are_made_with_one() -> None:
    def make(max_episode_steps: int | None = None) -> TensorVecEnv:
        return TensorVecEnv(Endless(chance=1.0), 2, max_episode_steps=max_episode_steps)

    limits = Limits(steps=50)
    env = make_limited(make, limits)
    result = run_episodes(Ones(), env, 6, limits=limits)
    assert result.lengths.tolist() == [50] * 6
    assert (result.cut_short, result.missing) == (6, 0)
    own = run_episodes(Ones(), TensorVecEnv(Endless(), 2, max_episode_steps=90), 4, limits=Limits(steps=90))
    assert own.lengths.tolist() == [90] * 4  # its own limit: nothing was cut
    assert (own.cut_short, own.missing) == (0, 0)


def test_a_limit_below_that_of_the_environment() -> None:
    env = TensorVecEnv(Hasty(chance=1.0), 3, max_episode_steps=500)
    result = run_episodes(Ones(), env, 3, limits=Limits(steps=7))
    assert result.lengths.tolist() == [7, 7, 7]
    assert result.cut_short == 3


def test_when_time_is_up_what_was_played_counts() -> None:
    result = run_episodes(Ones(), TensorVecEnv(Endless(chance=1.0), 3), 9, limits=Limits(seconds=0.05))
    assert len(result.returns) == result.cut_short == 3
    assert result.missing == 6
    assert (result.returns == result.lengths).all()
    finished = run_episodes(Ones(), TensorVecEnv(Hasty(), 4), 8, limits=Limits(seconds=600))
    assert (finished.cut_short, finished.missing) == (0, 0)


def test_an_evaluation_can_be_stopped() -> None:
    stopping.ask(signal.SIGINT)
    try:
        with pytest.raises(stopping.Stopped):
            run_episodes(Ones(), TensorVecEnv(Endless(), 2), 2)
    finally:
        stopping.ask(None)


def test_a_line_tells_how_far_a_long_evaluation_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    env = TensorVecEnv(Endless(), 2, max_episode_steps=400)
    run_episodes(Ones(), env, 2, limits=Limits(progress=True, seconds=None))
    lines = capsys.readouterr().err.splitlines()
    assert 1 < len(lines) < 10
    assert all(line.startswith("  evaluation: 0 of 2 episodes, ") for line in lines)


def of(*returns: float) -> Evaluation:
    return Evaluation(np.array(returns), np.arange(1, len(returns) + 1))


def test_numbers_by_hand() -> None:
    result = of(1.0, 2.0, 3.0, 6.0)
    assert result.mean_reward == 3.0
    assert result.std_reward == pytest.approx(3.5**0.5)  # deviations 2, 1, 0, 3: 14 / 4
    summary = result.summary()
    assert (summary["min"], summary["max"], summary["episodes"], summary["mean_ep_length"]) == (1.0, 6.0, 4, 2.5)
    assert summary["iqm"] == 2.5


def test_the_interquartile_mean_is_of_the_middle_half() -> None:
    assert of(8, 1, 7, 2, 6, 3, 5, 4).iqm == (3 + 4 + 5 + 6) / 4
    assert of(-1e9, 3, 1e9, 5, 4).iqm == 4.0
    assert of(2.0).iqm == 2.0
    assert of(2.0, 4.0).iqm == 3.0


def test_the_bootstrap_interval() -> None:
    assert of(*[7.0] * 20).ci95() == (7.0, 7.0)
    # the mean of two draws from {0, 1} is 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    assert of(0.0, 1.0).ci95() == (0.0, 1.0)
    # 400 fair coins: 1/2 -+ 1.96 * 0.5 / 20
    low, high = of(*[0.0, 1.0] * 200).ci95()
    assert low == pytest.approx(0.451, abs=0.003)
    assert high == pytest.approx(0.549, abs=0.003)
    assert of(*[0.0, 1.0] * 200).ci95() == (low, high)  # the same episodes, the same interval
