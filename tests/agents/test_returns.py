"""Advantages and returns against loops in plain Python, and advantages against Stable-Baselines3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from rltrain.agents.parts.returns import generalized_advantage, lambda_returns


def plain_loop(rollout: dict[str, Tensor], gamma: float, gae_lambda: float) -> np.ndarray:
    """Equation 16 of Schulman et al. (2016), one number at a time, in float64."""
    data = {name: x.tolist() for name, x in rollout.items()}
    horizon, n = rollout["reward"].shape
    advantage = np.zeros((horizon, n))
    for i in range(n):
        ahead = 0.0
        for t in reversed(range(horizon)):
            future = 0.0 if data["terminated"][t][i] else gamma * data["next_value"][t][i]
            delta = data["reward"][t][i] + future - data["value"][t][i]
            done = data["terminated"][t][i] or data["truncated"][t][i]
            ahead = delta + (0.0 if done else gamma * gae_lambda * ahead)
            advantage[t, i] = ahead
    return advantage


def random_rollout(horizon: int, n: int, seed: int, ends: float = 0.2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    reward, value, next_value = torch.randn(3, horizon, n, generator=rng, dtype=torch.float64)
    terminated = torch.rand(horizon, n, generator=rng) < ends
    truncated = (torch.rand(horizon, n, generator=rng) < ends) & ~terminated
    return {
        "reward": reward,
        "value": value,
        "next_value": next_value,
        "terminated": terminated,
        "truncated": truncated,
    }


@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 0.95), (0.9, 0.0), (0.9, 1.0), (1.0, 1.0), (0.0, 0.5)])
@pytest.mark.parametrize(("horizon", "n"), [(1, 1), (1, 5), (17, 6)])
def test_equals_a_plain_loop(horizon: int, n: int, gamma: float, gae_lambda: float) -> None:
    rollout = random_rollout(horizon, n, seed=horizon + n)
    advantage = generalized_advantage(**rollout, gamma=gamma, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantage, plain_loop(rollout, gamma, gae_lambda), rtol=0, atol=1e-12)

    single = {name: x.float() if x.is_floating_point() else x for name, x in rollout.items()}
    advantage = generalized_advantage(**single, gamma=gamma, gae_lambda=gae_lambda)
    assert advantage.dtype == torch.float32
    np.testing.assert_allclose(advantage, plain_loop(single, gamma, gae_lambda), rtol=1e-6, atol=2e-6)


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def by_hand(terminated: int | None = None, truncated: int | None = None, middle: float = 3.0) -> list[float]:
    """Rewards 1, 2, 3; values 1, 2, 4; next values 2, ``middle``, 5; gamma = lambda = 0.5."""
    flags = torch.arange(3).unsqueeze(1)
    advantage = generalized_advantage(
        column(1, 2, 3),
        column(1, 2, 4),
        column(2, middle, 5),
        flags == (-1 if terminated is None else terminated),
        flags == (-1 if truncated is None else truncated),
        gamma=0.5,
        gae_lambda=0.5,
    )
    return advantage.flatten().tolist()


def test_three_steps_by_hand() -> None:
    # deltas: 1 + 0.5 * 2 - 1 = 1;  2 + 0.5 * 3 - 2 = 1.5;  3 + 0.5 * 5 - 4 = 1.5
    assert by_hand() == [1 + 0.25 * 1.875, 1.5 + 0.25 * 1.5, 1.5]
    # terminated in the middle: delta 2 + 0 - 2 = 0, and nothing of the next episode
    assert by_hand(terminated=1) == [1.0, 0.0, 1.5]
    # truncated in the middle: the bootstrap stays, and nothing of the next episode
    assert by_hand(truncated=1) == [1 + 0.25 * 1.5, 1.5, 1.5]


def test_nan_behind_a_termination_does_not_leak() -> None:
    assert by_hand(terminated=1, middle=float("nan")) == [1.0, 0.0, 1.5]
    assert by_hand(terminated=1, middle=float("inf")) == [1.0, 0.0, 1.5]
    assert np.isnan(by_hand(truncated=1, middle=float("nan"))[:2]).all()


def test_lambda_zero_is_the_one_step_error_and_one_is_monte_carlo() -> None:
    rollout = random_rollout(6, 3, seed=1, ends=0.0)
    reward, value, next_value = rollout["reward"], rollout["value"], rollout["next_value"]
    torch.testing.assert_close(
        generalized_advantage(**rollout, gamma=0.9, gae_lambda=0.0), reward + 0.9 * next_value - value
    )
    rollout["next_value"] = torch.cat([value[1:], next_value[-1:]])  # as in an episode that goes on
    discounts = 0.9 ** torch.arange(6, dtype=torch.float64).unsqueeze(1)
    monte_carlo = (discounts * reward).sum(0) + 0.9**6 * next_value[-1] - value[0]
    torch.testing.assert_close(generalized_advantage(**rollout, gamma=0.9, gae_lambda=1.0)[0], monte_carlo)


def test_equals_stable_baselines3() -> None:
    horizon, n, gamma, gae_lambda = 40, 7, 0.98, 0.9
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, horizon, n)).astype(np.float32)
    last_value = rng.normal(size=n).astype(np.float32)
    done = rng.random((horizon, n)) < 0.15
    done[-1, :3] = True
    assert not done[-1].all()

    theirs = RolloutBuffer(
        horizon, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), gamma=gamma, gae_lambda=gae_lambda, n_envs=n
    )
    theirs.rewards[:], theirs.values[:] = reward, value
    theirs.episode_starts[1:] = done[:-1]
    theirs.compute_returns_and_advantage(torch.from_numpy(last_value), done[-1])

    next_value = np.concatenate([value[1:], last_value[None]])
    ours = generalized_advantage(
        *(torch.from_numpy(x) for x in (reward, value, next_value, done, np.zeros_like(done))),
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    np.testing.assert_allclose(ours, theirs.advantages, atol=1e-5)


@pytest.mark.parametrize(("gamma", "q_lambda"), [(0.99, 0.65), (0.9, 0.0), (0.9, 1.0), (1.0, 1.0), (0.0, 0.5)])
@pytest.mark.parametrize(("horizon", "n"), [(1, 1), (1, 5), (17, 6)])
def test_lambda_returns_equal_a_plain_loop(horizon: int, n: int, gamma: float, q_lambda: float) -> None:
    """Gallici et al. (2024), equation 2."""
    rollout = random_rollout(horizon, n, seed=horizon + n)
    del rollout["value"]
    rollout["next_value"][rollout["terminated"]] = torch.nan  # behind a termination nothing may be looked at
    returns = lambda_returns(**rollout, gamma=gamma, q_lambda=q_lambda)
    data = {name: x.tolist() for name, x in rollout.items()}
    for i in range(n):
        ahead = None
        for t in reversed(range(horizon)):
            value = data["next_value"][t][i]
            if data["terminated"][t][i]:
                future = 0.0
            elif data["truncated"][t][i] or ahead is None:
                future = value
            else:
                future = q_lambda * ahead + (1 - q_lambda) * value
            ahead = data["reward"][t][i] + gamma * future
            assert returns[t, i].item() == pytest.approx(ahead, abs=1e-12)
