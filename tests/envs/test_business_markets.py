"""Battery, portfolio and job shop: books balance, prices follow the model, schedules are feasible."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rltrain.evaluation.baselines import evaluate_baseline
from rltrain.make import make_env, make_vec
from rltrain.spaces import random_actions

N = 256


def start(name: str, **constants: Any) -> tuple[Any, Any, torch.Generator]:
    env = make_env(f"rltrain/{name}-v0", dtype=torch.float64, **constants)
    rng = torch.Generator().manual_seed(0)
    return env, env.reset(N, rng), rng


def test_a_battery_keeps_its_books() -> None:
    env, state, rng = start("BatteryArbitrage", wear=0.0)
    actions = torch.Generator().manual_seed(1)
    for _ in range(50):
        price = env.price(state)
        after, reward, _ = env.step(state, random_actions(env.action_space, N, env.device, actions), rng)
        into = after.charge - state.charge
        paid = torch.where(into > 0, into / math.sqrt(0.88), into * math.sqrt(0.88))
        torch.testing.assert_close(after.power, paid)
        torch.testing.assert_close(reward, -paid * price / 100)
        assert (after.power.abs() <= 2.5 + 1e-12).all()
        assert ((after.charge >= 0) & (after.charge <= 10)).all()
        assert torch.equal(after.hour, (state.hour + 1) % 24)
        state = after
    assert (state.charge == 10).any() or (state.charge == 0).any()


def test_a_full_cycle_costs_efficiency_and_wear() -> None:
    env, state, _ = start("BatteryArbitrage", volatility=0.0, day_swing=0.0, half_day_swing=0.0)
    state = dataclasses.replace(state, charge=torch.zeros(N, dtype=torch.float64))
    total = torch.zeros(N, dtype=torch.float64)
    for power in (1.0, -1.0, -1.0):
        state, reward, _ = env.step(state, torch.full((N, 1), power), None)
        total += 100 * reward
    stored = 2.5 * math.sqrt(0.88)
    by_hand = -2.5 * 60 + stored * math.sqrt(0.88) * 60 - 3 * 2 * stored
    torch.testing.assert_close(total, torch.full((N,), by_hand, dtype=torch.float64))
    torch.testing.assert_close(state.charge, torch.zeros(N, dtype=torch.float64))


def test_prices_have_the_models_moments() -> None:
    env, state, rng = start("BatteryArbitrage")
    seen = []
    for _ in range(400):
        state, _, _ = env.step(state, torch.zeros(N, 1), rng)
        seen.append(state.deviation)
    x = torch.stack(seen)
    assert float(x.mean()) == pytest.approx(0, abs=0.5)
    assert float(x.std()) == pytest.approx(9 / math.sqrt(1 - 0.85**2), rel=0.03)
    lagged = float((x[1:] * x[:-1]).mean() / x.var())
    assert lagged == pytest.approx(0.85, abs=0.02)
    cycle = env._cycle()
    assert float(cycle.mean()) == pytest.approx(60)
    assert int(cycle.argmax()) in (18, 19, 20)


def test_a_portfolios_wealth_is_what_its_parts_are_worth() -> None:
    """Ten days by hand, holding by holding."""
    env, state, rng = start("Portfolio")
    holdings = state.weights.clone()  # in units of the wealth at the start
    actions = torch.Generator().manual_seed(1)
    for _ in range(10):
        draws = torch.Generator()
        draws.set_state(rng.get_state())
        noise = torch.randn(N, 11, generator=draws, dtype=torch.float64)
        move = 0.03 + 0.1 * state.signal + 1.2 * (math.sqrt(0.3) * noise[:, 10:] + math.sqrt(0.7) * noise[:, :5])
        action = random_actions(env.action_space, N, env.device, actions).double()
        target = torch.softmax(5 * action, 1)
        wealth = holdings.sum(1, keepdim=True)
        moved = (target * wealth - holdings).abs().sum(1, keepdim=True) / 2
        growth = torch.cat((1 + move / 100, torch.ones(N, 1)), 1)
        holdings = (wealth - 0.001 * moved) * target * growth
        before = state
        state, reward, _ = env.step(state, action, rng)
        torch.testing.assert_close(state.log_wealth.exp(), holdings.sum(1))
        torch.testing.assert_close(reward, 100 * (holdings.sum(1) / wealth.squeeze(1)).log())
        torch.testing.assert_close(state.weights, holdings / holdings.sum(1, keepdim=True))
        torch.testing.assert_close(state.signal, 0.9 * before.signal + math.sqrt(0.19) * noise[:, 5:10])


def test_signals_foretell_and_noise_is_correlated() -> None:
    env, state, rng = start("Portfolio", cost=0.0, assets=2)
    first, second, foretold = [], [], []
    for _ in range(200):
        foretold.append(state.signal[:, 0])
        after, reward, _ = env.step(state, torch.tensor([1.0, -1.0, -1.0]).expand(N, 3), rng)
        first.append(reward)
        second.append((after.weights[:, 1] / after.weights[:, 2]).log())
        state = after
    x, f = torch.cat(first), torch.cat(foretold)
    slope = float((x * f).mean() / f.square().mean())
    assert slope == pytest.approx(0.1, abs=0.02)
    assert float(f.std()) == pytest.approx(1, abs=0.03)
    correlation = torch.corrcoef(torch.stack((x, torch.cat(second))))[0, 1]
    assert float(correlation) == pytest.approx(0.3, abs=0.03)


def schedule_by_hand(machine: np.ndarray, duration: np.ndarray, jobs: list[int]) -> tuple[np.ndarray, float]:
    """Ends of the operations when jobs are dispatched in that order, and the makespan."""
    finish, done = np.zeros_like(duration), [0] * len(duration)
    job_free, machine_free = [0.0] * len(duration), [0.0] * duration.shape[1]
    for job in jobs:
        k = done[job]
        m = machine[job, k]
        finish[job, k] = job_free[job] = machine_free[m] = max(job_free[job], machine_free[m]) + duration[job, k]
        done[job] += 1
    return finish, max(job_free)


@pytest.mark.parametrize("size", [(6, 6), (3, 5)])
def test_schedules_are_those_of_a_plain_scheduler(size: tuple[int, int]) -> None:
    env, state, _ = start("JobShop", jobs=size[0], machines=size[1])
    first = state
    work = state.duration.sum(-1).amax(1)
    actions = torch.Generator().manual_seed(1)
    taken, total = [], torch.zeros(N, dtype=torch.float64)
    for i in range(size[0] * size[1]):
        mask = env.action_mask(state)
        taken.append(random_actions(env.action_space, N, env.device, actions, mask))
        state, reward, terminated = env.step(state, taken[-1], None)
        total += reward
        assert (reward <= 0).all()
        assert bool(terminated.all()) == (i == size[0] * size[1] - 1) == bool(terminated.any())
    chosen = torch.stack(taken, 1)
    for row in range(0, N, 16):
        machine, duration = first.machine[row].numpy(), first.duration[row].numpy()
        finish, makespan = schedule_by_hand(machine, duration, chosen[row].tolist())
        np.testing.assert_allclose(state.finish[row].numpy(), finish)
        assert float(env.info(state)["makespan"][row]) == makespan
        assert float(total[row]) == pytest.approx((float(work[row]) - makespan) / 100)
        for m in range(size[1]):  # one operation at a time
            ends, lengths = finish[machine == m], duration[machine == m]
            spans = sorted(zip(ends - lengths, ends, strict=True))
            assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert not env.action_mask(state).any()


def test_every_job_visits_every_machine_for_a_time_in_range() -> None:
    _, state, _ = start("JobShop", longest=7)
    assert torch.equal(state.machine.sort(-1).values, torch.arange(6).expand(N, 6, 6))
    assert sorted(state.duration.unique().tolist()) == [1, 2, 3, 4, 5, 6, 7]
    first = torch.bincount(state.machine[:, :, 0].flatten(), minlength=6) / (6 * N)
    torch.testing.assert_close(first, torch.full((6,), 1 / 6), rtol=0, atol=0.03)


def test_a_job_that_is_done_changes_nothing() -> None:
    env, state, _ = start("JobShop")
    job = torch.zeros(N, dtype=torch.int64)
    for _ in range(6):
        state, _, _ = env.step(state, job, None)
    assert not env.action_mask(state)[:, 0].any()
    after, reward, terminated = env.step(state, job, None)
    for field in dataclasses.fields(state):
        assert torch.equal(getattr(after, field.name), getattr(state, field.name))
    assert not reward.any()
    assert not terminated.any()
    assert env.observe(state)[:, 2 * 6 : 3 * 6][:, 0].eq(0).all()  # no work is left


@pytest.mark.parametrize("name", ["BatteryArbitrage", "Portfolio", "JobShop"])
def test_baselines_beat_random_actions(name: str) -> None:
    vec = make_vec(f"rltrain/{name}-v0", 200)
    baseline, random = (evaluate_baseline(vec, who, 200).returns for who in ("baseline", "random"))
    error = math.sqrt((baseline.var() + random.var()) / 200)
    assert baseline.mean() - random.mean() > 5 * error


def test_all_actions_mean_what_they_say() -> None:
    env, state, _ = start("Portfolio")
    action: Tensor = torch.tensor([1.0, -1.0, -1.0, -1.0, -1.0, -1.0]).expand(N, 6)
    after, _, _ = env.step(state, action, torch.Generator())
    assert (after.weights[:, 0] > 0.99).all()
    rest = math.exp(-10) / (1 + 5 * math.exp(-10))
    torch.testing.assert_close(env.info(after)["turnover"], torch.full((N,), 1 - rest, dtype=torch.float64))
