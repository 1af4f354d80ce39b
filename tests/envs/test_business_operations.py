"""Servers, stocks and prices: nothing gets lost, demand follows the model, and baselines follow the textbook."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from rltrain.envs.business.chance import count_cdf
from rltrain.evaluation.baselines import evaluate_baseline
from rltrain.make import make_env, make_vec
from rltrain.spaces import random_actions

N = 256


def start(name: str, **constants: Any) -> tuple[Any, Any, torch.Generator]:
    env = make_env(f"rltrain/{name}-v0", dtype=torch.float64, **constants)
    rng = torch.Generator().manual_seed(0)
    return env, env.reset(N, rng), rng


def test_requests_are_served_wait_or_are_turned_away() -> None:
    env, state, rng = start("Autoscaling")
    actions = torch.Generator().manual_seed(1)
    turned_away = 0.0
    for _ in range(100):
        after, reward, _ = env.step(state, random_actions(env.action_space, N, env.device, actions), rng)
        torch.testing.assert_close(state.queue + after.arrived, after.served + after.queue + after.dropped)
        assert (after.served <= after.running).all()
        assert ((after.queue >= 0) & (after.queue <= 20)).all()
        servers = after.running + after.booting.sum(1)
        assert ((servers >= 1) & (servers <= 40)).all()
        torch.testing.assert_close(reward, -(0.1 * servers + 0.1 * after.queue + after.dropped))
        turned_away += float(after.dropped.sum())
        state = after
    assert turned_away > 0


def test_a_server_works_after_its_boot_steps() -> None:
    env, state, _ = start("Autoscaling", boot_steps=3)
    state = dataclasses.replace(state, running=torch.full((N,), 10.0, dtype=torch.float64))
    up, same, down = (torch.full((N,), action) for action in (2, 1, 0))
    running, costs = [], []
    for action in (up, same, same, same, down):
        state, _, _ = env.step(state, action, None)
        running.append(float(state.running[0]))
        costs.append(float(env.info(state)["servers"][0]))
    assert running == [10, 10, 10, 12, 10]
    assert costs == [12, 12, 12, 12, 10]


def test_loads_have_the_models_moments() -> None:
    env, state, rng = start("Autoscaling", burst_chance=0.0)
    by_hour: dict[int, list[float]] = {}
    for _ in range(288):
        hour = int(state.clock[0])
        state, _, _ = env.step(state, torch.ones(N, dtype=torch.int64), rng)
        by_hour.setdefault(hour, []).append(float(state.arrived[0]))
    assert len(by_hour) == 288
    clock = torch.arange(288)
    mean = 0.4 * 40 * (1 + 0.6 * torch.cos(2 * math.pi * (clock / 288 - 14 / 24)))
    torch.testing.assert_close(env.load(clock), mean.double(), rtol=1e-5, atol=1e-5)
    seen = np.array([by_hour[i][0] for i in range(288)])
    z = (seen - mean.numpy()) / np.sqrt(mean.numpy() * 0.05)
    assert abs(z.mean()) < 4 / math.sqrt(288)
    assert 0.85 < z.std() < 1.15
    env, state, rng = start("Autoscaling", burst_chance=0.02)
    for _ in range(200):
        state, _, _ = env.step(state, torch.ones(N, dtype=torch.int64), rng)
    assert float(state.burst.mean()) == pytest.approx(0.02 * 0.5 / 0.1, rel=0.3)  # births times size times duration


def test_counts_are_poisson_and_negative_binomial() -> None:
    means = torch.tensor([0.5, 3.0, 12.0], dtype=torch.float64)
    k = np.arange(40)
    for i, mean in enumerate(means.tolist()):
        np.testing.assert_allclose(count_cdf(means, 40)[i], stats.poisson.cdf(k, mean), atol=1e-10)
        dispersed = count_cdf(means, 40, torch.tensor(2.5, dtype=torch.float64))[i]
        np.testing.assert_allclose(dispersed, stats.nbinom.cdf(k, mean / 1.5, 1 / 2.5), atol=1e-10)


def test_units_are_on_hand_on_the_way_or_sold() -> None:
    env, state, rng = start("Inventory", order_limit=1.6)
    actions = torch.Generator().manual_seed(1)
    for _ in range(60):
        action = random_actions(env.action_space, N, env.device, actions)
        after, reward, _ = env.step(state, action, rng)
        ordered = ((action[:, 0].double() + 1) / 2 * 1.6 * 15).round()  # of the warehouse, from the supplier
        before = state.stock.sum(1) + state.pipeline.sum(1)
        now = after.stock.sum(1) + after.pipeline.sum(1)
        torch.testing.assert_close(now, before + ordered - after.sold.sum(1))
        keeping = 0.5 * after.stock[:, 0] + 1.0 * after.stock[:, 1:].sum(1)
        torch.testing.assert_close(reward, -(keeping + 9 * after.lost.sum(1)) / 100)
        assert (after.stock >= 0).all()
        assert (after.stock == after.stock.round()).all()
        assert not ((after.stock[:, 1:] > 0) & (after.lost > 0)).any()  # no sale is lost while there is stock
        state = after
    assert (state.lost > 0).any()


def test_the_base_stock_of_a_shop_is_the_newsvendors() -> None:
    """What a shop with the same morning's delivery orders up to: the quantile c_u / (c_u + c_o) of a day's demand."""
    env = make_env("rltrain/Inventory-v0", shops=1, shop_lead_time=0, dispersion=1.0, mean_demand=20.0)
    level = env.base_stock()[1]
    assert int(level) == int(stats.poisson.ppf(9 / (9 + 1), 20.0))


def test_a_season_ends_when_the_stock_or_the_days_do() -> None:
    env, state, rng = start("DynamicPricing")
    earned = torch.zeros(N, dtype=torch.float64)
    live = torch.ones(N, dtype=torch.bool)
    for _ in range(50):
        after, reward, terminated = env.step(state, torch.full((N, 1), -0.5), rng)
        sold = state.stock - after.stock
        price = 10 + 120 * 0.25
        torch.testing.assert_close(reward, sold * price / 1000)
        assert ((sold >= 0) & (after.stock >= 0)).all()
        assert torch.equal(terminated, (after.stock <= 0) | (after.day >= 50))
        earned += reward * live
        live &= ~terminated
        state = after
    assert not live.any()
    assert (earned <= 100 * 0.04 + 1e-9).all()


def test_customers_buy_as_often_as_the_demand_curve_says() -> None:
    env, state, rng = start("DynamicPricing", customers=6.0, limit=100.0, stock=100_000)
    sold = []
    for _ in range(40):
        after, _, _ = env.step(state, torch.full((N, 1), 0.0), rng)  # 70 euros
        sold.append(state.stock - after.stock)
        state = after
    counts = torch.cat(sold)
    assert float(counts.mean()) == pytest.approx(6 * 0.3, rel=0.03)
    assert float(counts.var()) == pytest.approx(6 * 0.3, rel=0.06)


@pytest.mark.parametrize("name", ["Autoscaling", "DynamicPricing", "Inventory"])
def test_textbooks_beat_random_actions(name: str) -> None:
    vec = make_vec(f"rltrain/{name}-v0", 200)
    baseline, random = (evaluate_baseline(vec, who, 200).returns for who in ("baseline", "random"))
    assert baseline.mean() - random.mean() > 5 * math.sqrt((baseline.var() + random.var()) / 200)
