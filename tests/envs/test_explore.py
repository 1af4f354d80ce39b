"""Exploration tasks follow the rules of their sources, and probes have the values that they state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rltrain.envs.explore import probes
from rltrain.envs.explore.bandit import Bandit, BanditState
from rltrain.envs.explore.deep_sea import DeepSea, DeepSeaState
from rltrain.envs.explore.discounting_chain import DiscountingChain
from rltrain.errors import ConfigError

GAMMA = 0.8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_of_all_ways_down_one_finds_the_treasure() -> None:
    env = DeepSea(dtype=torch.float64)
    actions = torch.tensor(list(itertools.product([0, 1], repeat=10)))
    state, total = env.reset(1024, None), torch.zeros(1024, dtype=torch.float64)
    for step in range(10):
        assert torch.equal(env.observe(state).sum((1, 2)), torch.ones(1024, dtype=torch.float64))
        state, reward, terminated = env.step(state, actions[:, step], None)
        assert terminated.tolist() == [step == 9] * 1024
        total += reward
    found = env.info(state)["is_success"]
    assert not env.observe(state).any()
    assert int(found.sum()) == 1
    assert float(total[found]) == pytest.approx(0.99)
    assert float(total[~found].max()) == pytest.approx(0.0)
    assert float(total.mean()) == pytest.approx(2**-10 - 0.005)  # random actions


def test_the_seas_are_bsuites() -> None:
    rows = DeepSea(size=10).to_the_right.view(11, 10)[:10].tolist()
    assert ["".join(map(str, row)) for row in rows[:3]] == ["0111000111", "0110000100", "1000010110"]  # of seed 42
    assert (DeepSea(randomize_actions=False).to_the_right == 1).all()
    assert not torch.equal(DeepSea(mapping_seed=1).to_the_right, DeepSea(mapping_seed=2).to_the_right)


def one_dive(size: int, cost: float, row: int, column: int, right: bool, held: bool, noise: float) -> tuple[int, float]:
    """The rules for one diver: the new column and the reward."""
    reward = 1.0 if right and column == size - 1 else 0.0
    if row == size - 1 and column in (0, size - 1):
        reward += noise
    if not right:
        return max(column - 1, 0), reward
    return (column if held else min(column + 1, size - 1)), reward - cost / size


@pytest.mark.parametrize("deterministic", [True, False])
def test_deep_sea_against_a_plain_loop(deterministic: bool) -> None:
    size, n = 5, 4_000
    env = DeepSea(size=size, deterministic=deterministic, unscaled_move_cost=0.2, mapping_seed=7, dtype=torch.float64)
    rng = generator()
    row, column = (torch.randint(size, (n,), generator=rng) for _ in range(2))
    action = torch.randint(2, (n,), generator=rng)
    state = DeepSeaState(row, torch.minimum(row, column), torch.zeros(n) > 0)
    after, reward, terminated = env.step(state, action, generator(9))
    same = generator(9)
    noise, current = (draw(n, generator=same, dtype=torch.float64).tolist() for draw in (torch.randn, torch.rand))
    held_at_all = 0
    for i in range(n):
        r, c = int(state.row[i]), int(state.column[i])
        right = int(action[i]) == int(env.to_the_right[r * size + c])
        held = not deterministic and current[i] <= 1 / size
        held_at_all += held
        expected = one_dive(size, 0.2, r, c, right, held, 0.0 if deterministic else noise[i])
        assert (int(after.column[i]), float(reward[i])) == pytest.approx(expected)
        assert int(after.row[i]) == r + 1
        assert bool(terminated[i]) == (r == size - 1)
    assert held_at_all / n == pytest.approx(0.0 if deterministic else 0.2, abs=0.03)


def test_no_policy_dives_better_than_the_baseline() -> None:
    """Its mean return in the stochastic sea against dynamic programming."""
    size, cost, n = 4, 0.1, 40_000
    values: dict[tuple[int, int], float] = {(size, column): 0.0 for column in range(size)}
    for row in reversed(range(size)):
        for column in range(size):
            options = []
            for right in (True, False):
                chances = ((1 / size, True), (1 - 1 / size, False))
                outcomes = [(p, one_dive(size, cost, row, column, right, held, 0.0)) for p, held in chances]
                options.append(sum(p * (reward + values[row + 1, to]) for p, (to, reward) in outcomes))
            values[row, column] = max(options)
    env, rng = DeepSea(size=size, deterministic=False, unscaled_move_cost=cost), generator()
    state, total = env.reset(n, rng), torch.zeros(n)
    for _ in range(size):
        state, reward, _ = env.step(state, env.baseline(state), rng)
        total += reward
    assert float(total.mean()) == pytest.approx(values[0, 0], abs=4 * float(total.std()) / math.sqrt(n))


@pytest.mark.parametrize("bonus_chain", range(5))
def test_chains_pay_once_and_on_time(bonus_chain: int) -> None:
    env = DiscountingChain(bonus_chain=bonus_chain, bonus=0.5)
    state, rewards = env.reset(5, None), []
    assert env.observe(state).tolist() == [[-1.0, 0.0]] * 5
    rng = generator()
    for step in range(100):
        action = torch.arange(5) if step == 0 else torch.randint(5, (5,), generator=rng)  # no effect any more
        state, reward, terminated = env.step(state, action, None)
        rewards.append(reward)
        assert torch.equal(env.observe(state), torch.tensor([[float(i), (step + 1) / 100] for i in range(5)]))
        assert terminated.tolist() == [step == 99] * 5
    paid = torch.stack(rewards)
    assert paid.nonzero().tolist() == [[0, 0], [2, 1], [9, 2], [29, 3], [99, 4]]
    assert paid.sum(0).tolist() == [1.5 if chain == bonus_chain else 1.0 for chain in range(5)]
    assert env.info(state)["is_success"].tolist() == [chain == bonus_chain for chain in range(5)]
    assert env.baseline(env.reset(2, None)).tolist() == [bonus_chain] * 2


def test_the_longest_chain_is_worth_waiting_for_only_at_high_gamma() -> None:
    times = DiscountingChain.pays_after
    for gamma, best in ((0.99903, 0), (0.99905, 4)):
        worth = [gamma ** (time - 1) * (1.1 if chain == 4 else 1.0) for chain, time in enumerate(times)]
        assert worth.index(max(worth)) == best


def pulls(env: Bandit, n: int, choose: Callable[[BanditState], Tensor], seed: int = 0) -> tuple[BanditState, Tensor]:
    """The last states of n episodes, and the returns (n,)."""
    rng = generator(seed)
    state, total = env.reset(n, rng), torch.zeros(n)
    for step in range(env.num_pulls):
        state, reward, terminated = env.step(state, choose(state), rng)
        total += reward
        assert terminated.tolist() == [step == env.num_pulls - 1] * n
    return state, total


def test_arms_pay_what_their_means_say() -> None:
    n = 50
    state, total = pulls(Bandit(num_arms=3, num_pulls=900), n, lambda s: (s.arm + 1) % 3)
    assert (state.counts == 300).all()
    torch.testing.assert_close(state.sums.sum(1), total)
    error = (state.sums / 300 - state.means) / (state.means * (1 - state.means) / 300).sqrt()
    assert float(error.square().mean()) == pytest.approx(1.0, abs=0.35)
    state, _ = pulls(Bandit(num_arms=3, num_pulls=900, arms="gaussian", noise=2.0), n, lambda s: (s.arm + 1) % 3)
    error = (state.sums / 300 - state.means) / (2.0 / math.sqrt(300))
    assert float(error.square().mean()) == pytest.approx(1.0, abs=0.35)


def test_arms_are_drawn_anew_for_every_episode() -> None:
    tenths = torch.linspace(0, 1, 11)
    uniform = Bandit().reset(5_000, generator()).means
    normal = Bandit(arms="gaussian").reset(5_000, generator()).means
    for arm in range(10):
        torch.testing.assert_close(torch.quantile(uniform[:, arm], tenths), tenths, rtol=0, atol=0.04)
        torch.testing.assert_close(
            torch.quantile(torch.special.ndtr(normal[:, arm]), tenths), tenths, rtol=0, atol=0.04
        )
    assert abs(float(torch.corrcoef(uniform.T).fill_diagonal_(0).abs().max())) < 0.06


def test_the_last_pull_is_all_that_is_seen_and_regret_adds_up() -> None:
    env, rng = Bandit(num_arms=4, num_pulls=50), generator()
    state = env.reset(3, rng)
    assert not env.observe(state).any()
    regret = torch.zeros(3)
    for _ in range(50):
        action = torch.randint(4, (3,), generator=rng)
        state, reward, _ = env.step(state, action, rng)
        seen = env.observe(state)
        assert torch.equal(seen, torch.cat((torch.nn.functional.one_hot(action, 4), reward[:, None]), 1))
        regret += state.means.max(1).values - state.means[torch.arange(3), action]
        torch.testing.assert_close(env.info(state)["regret"], regret)


def test_what_is_said_about_pulling_arms() -> None:
    env, rng = Bandit(), generator(5)
    policies: dict[str, Callable[[BanditState], Tensor]] = {
        "random": lambda s: torch.randint(10, s.arm.shape, generator=rng),
        "stay or try the next": lambda s: torch.where(s.reward > 0, s.arm, (s.arm + 1) % 10),
        "greedy": lambda s: (s.sums / s.counts).nan_to_num(torch.inf).argmax(1),
        "baseline": env.baseline,
        "best": lambda s: s.means.argmax(1),
    }
    means = [float(pulls(env, 3_000, choose)[1].mean()) for choose in policies.values()]
    assert means == pytest.approx([50, 73, 81.6, 83.6, 90.9], abs=0.8)
    gaussian = Bandit(arms="gaussian")
    assert float(pulls(gaussian, 1_000, gaussian.baseline)[1].mean()) > 120
    assert float(pulls(gaussian, 1_000, policies["random"])[1].mean()) == pytest.approx(0, abs=3)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (DeepSea, {"size": 1}),
        (DeepSea, {"deterministic": "no"}),
        (DeepSea, {"unscaled_move_cost": -0.1}),
        (DeepSea, {"mapping_seed": -1}),
        (DiscountingChain, {"bonus_chain": 5}),
        (DiscountingChain, {"bonus": -1.0}),
        (Bandit, {"num_arms": 1}),
        (Bandit, {"num_pulls": 0}),
        (Bandit, {"arms": "cauchy"}),
        (Bandit, {"noise": 0.0}),
    ],
)
def test_arguments_are_checked(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make(**wrong)


VALUES: dict[str, dict[tuple[float, float], float]] = {
    "ConstantReward": {(0, 0): 1 / (1 - GAMMA)},
    "ObservationReward": {(0, 0): 0, (1, 0): 1},
    "Bandit": {(0, 0): 1, (1, 0): 1},
    "ActionReward": {(0, 0): 1, (1, 0): 1},
    "Target": {(0, 0): 1, (1, 0): 1},
    "DelayedReward": {(0, 0): GAMMA**2, (1, 1): GAMMA, (1, 2): 1},
    "Autoreset": {(0, 0): GAMMA / (1 - GAMMA), (1, 0): 1 / (1 - GAMMA)},
}


@pytest.mark.parametrize("name", VALUES)
def test_probes_have_the_values_that_they_say(name: str) -> None:
    """Every observation that the best policy meets, and the discounted rewards from there to a termination."""
    env = getattr(probes, name)()
    acts = type(env).baseline is not probes.Probe.baseline  # elsewhere all actions are alike
    state, rng, met, rewards = env.reset(32, generator()), generator(1), [], []
    terminated = torch.zeros(32, dtype=torch.bool)
    while not terminated.all() and len(met) < 100:
        met.append(env.observe(state))
        action = env.baseline(state) if acts else torch.randint(2, (32,), generator=rng)
        state, reward, terminated = env.step(state, action, None)
        rewards.append(reward)
    worth, found = torch.zeros(32), set()
    for time in reversed(range(len(met))):
        worth = rewards[time] + GAMMA * worth
        if terminated.all() or time < 20:  # the rest of an endless episode is worth gamma^80
            found |= {(*row, round(value, 4)) for row, value in zip(met[time].tolist(), worth.tolist(), strict=True)}
    assert found == {(*row, round(value, 4)) for row, value in VALUES[name].items()}
