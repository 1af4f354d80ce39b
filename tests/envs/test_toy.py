"""The toy games have Gymnasium's transition tables: states, probabilities, rewards and ends."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from originals import cliff, lake_options, taxi
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.make import make_env
from rltrain.vec import TensorVecEnv

LAKE = ["SFHFS", "FFFFH", "HFFGF"]
GAMES = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    pytest.param("FrozenLake-v1", {"success_rate": 0.7, "reward_schedule": (5.0, -2.0, -0.5)}, marks=lake_options),
    pytest.param("FrozenLake-v1", {"desc": LAKE, "success_rate": 0.9}, marks=lake_options),
    ("FrozenLake8x8-v1", {}),
    ("FrozenLake8x8-v1", {"is_slippery": False}),
    pytest.param("CliffWalking-v1", {}, marks=cliff),
    pytest.param("CliffWalkingSlippery-v1", {}, marks=cliff),
    pytest.param("Taxi-v4", {}, marks=taxi),
    pytest.param("Taxi-v4", {"is_rainy": True}, marks=taxi),
    pytest.param("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.55}, marks=taxi),
]
every_game = pytest.mark.parametrize(("name", "kwargs"), GAMES)


def both(name: str, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return gymnasium.make(name, **kwargs).unwrapped, make_env(f"rltrain/{name}", dtype=torch.float64, **kwargs)


def in_states(env: TensorEnv, numbers: Tensor) -> Any:
    """A state of the environment with the given numbers in its first field."""
    state = env.reset(len(numbers), torch.Generator().manual_seed(0))
    return type(state)(numbers, *list(vars(state).values())[1:])


def assert_like(counts: np.ndarray, expected: np.ndarray) -> None:
    """Pearson's chi-square test, five standard deviations wide; what cannot be must not be."""
    counts, expected = counts.ravel(), expected.ravel()
    assert (counts[expected == 0] == 0).all()
    counts, expected = counts[expected > 0], expected[expected > 0]
    assert counts.sum() == pytest.approx(expected.sum())
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts)
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def sums(outcomes: list[tuple[float, int, float, bool]]) -> dict[tuple[int, float, bool], float]:
    """Probabilities by outcome, certain or impossible ones alike."""
    found: dict[tuple[int, float, bool], float] = defaultdict(float)
    for probability, number, reward, ends in outcomes:
        found[int(number), float(reward), bool(ends)] += probability
    return dict(found)


@every_game
def test_tables_are_gymnasiums(name: str, kwargs: dict[str, Any]) -> None:
    theirs, ours = both(name, kwargs)
    rules, probabilities = ours.tables.rules, ours.tables.probabilities()
    assert rules.shape[:2] == (len(theirs.P), theirs.action_space.n)
    for state, actions in theirs.P.items():
        for action, outcomes in actions.items():
            mine = [(p, *rule.tolist()) for p, rule in zip(probabilities, rules[state, action], strict=True)]
            assert sums(mine) == pytest.approx(sums(outcomes), abs=1e-12)


@every_game
def test_steps_follow_the_tables(name: str, kwargs: dict[str, Any]) -> None:
    theirs, ours = both(name, kwargs)
    n_states, n_actions, times = len(theirs.P), theirs.action_space.n, 400
    numbers, actions, _ = torch.meshgrid(*(torch.arange(n) for n in (n_states, n_actions, times)), indexing="ij")
    after, reward, terminated = ours.step(
        in_states(ours, numbers.flatten()), actions.flatten(), torch.Generator().manual_seed(0)
    )
    counts, expected = defaultdict(float), defaultdict(float)
    seen = (numbers.flatten(), actions.flatten(), ours.observe(after), reward, terminated)
    for key in zip(*(column.tolist() for column in seen), strict=True):
        counts[key] += 1
    for state, by_action in theirs.P.items():
        for action, outcomes in by_action.items():
            for outcome, probability in sums(outcomes).items():
                expected[state, action, *outcome] = times * probability
    keys = sorted(set(counts) | set(expected))
    assert_like(np.array([counts[key] for key in keys]), np.array([expected[key] for key in keys]))


@every_game
def test_starts_are_gymnasiums(name: str, kwargs: dict[str, Any]) -> None:
    theirs, ours = both(name, kwargs)
    starts = ours.observe(ours.reset(30_000, torch.Generator().manual_seed(0)))
    assert_like(np.bincount(starts, minlength=len(theirs.P)), 30_000 * np.asarray(theirs.initial_state_distrib))


@every_game
def test_spaces_limits_and_pace_are_gymnasiums(name: str, kwargs: dict[str, Any]) -> None:
    theirs, ours = gymnasium.make(name, **kwargs), gymnasium.make(f"rltrain/{name}", **kwargs)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
    assert ours.spec is not None
    assert theirs.spec is not None
    assert ours.spec.reward_threshold == theirs.spec.reward_threshold
    assert ours.spec.max_episode_steps == (500 if "Cliff" in name else theirs.spec.max_episode_steps)


def test_nothing_is_drawn_without_chance() -> None:
    rng = torch.Generator().manual_seed(0)
    before = rng.get_state()
    for name, kwargs in (("CliffWalking-v1", {}), ("FrozenLake-v1", {"is_slippery": False})):
        env = make_env(f"rltrain/{name}", **kwargs)
        env.step(env.reset(8, rng), torch.zeros(8, dtype=torch.int64), rng)
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize("cell", [5, 15])
def test_success_is_the_goal_not_a_hole(cell: int) -> None:
    env = make_env("rltrain/FrozenLake-v1")
    assert env.info(in_states(env, torch.tensor([cell])))["is_success"].tolist() == [cell == 15]


def worth_within(env: Any, steps: int, policy: Tensor | None = None) -> Tensor:
    """Expected return from each state within so many steps: of a policy (S,), or of the best there is."""
    next_state, reward, terminated = env.tables.rules.unbind(-1)
    chance = torch.tensor(env.tables.probabilities(), dtype=torch.float64)
    worth = torch.zeros(len(next_state), dtype=torch.float64)
    for _ in range(steps):
        of_actions = (reward + (1 - terminated) * worth[next_state.long()]) @ chance
        worth = of_actions.amax(1) if policy is None else of_actions.gather(1, policy.unsqueeze(1)).squeeze(1)
    return worth


@pytest.mark.parametrize(
    ("name", "kwargs", "steps", "worth", "shortfall"),  # the best policy without a time limit falls short with one
    [
        ("FrozenLake-v1", {}, 100, 0.744, 0.005),
        ("FrozenLake-v1", {"is_slippery": False}, 6, 1.0, 0.0),
        ("FrozenLake8x8-v1", {}, 200, 0.913, 0.03),
        ("FrozenLake8x8-v1", {"is_slippery": False}, 14, 1.0, 0.0),
        pytest.param("CliffWalking-v1", {}, 13, -13.0, 0.0, marks=cliff),
        pytest.param("CliffWalkingSlippery-v1", {}, 500, -64.709, 0.1, marks=cliff),
        pytest.param("Taxi-v4", {}, 200, 7.93, 0.0, marks=taxi),  # on average over all starts
        pytest.param("Taxi-v4", {"is_rainy": True}, 200, 3.955, 0.01, marks=taxi),
    ],
)
def test_baselines_are_optimal(name: str, kwargs: dict[str, Any], steps: int, worth: float, shortfall: float) -> None:
    theirs, ours = both(name, kwargs)
    starts = torch.tensor(np.flatnonzero(theirs.initial_state_distrib))
    policy = ours.baseline(in_states(ours, torch.arange(len(theirs.P))))
    best = float(worth_within(ours, steps)[starts].mean())
    assert best == pytest.approx(worth, abs=0.006)
    assert best - shortfall - 1e-9 <= float(worth_within(ours, steps, policy)[starts].mean()) <= best + 1e-9


@taxi
def test_the_mask_is_gymnasiums() -> None:
    theirs = gymnasium.make("Taxi-v4").unwrapped
    expected = np.stack([theirs.action_mask(number) for number in range(500)])
    for kwargs in ({}, {"is_rainy": True}):
        ours = make_env("rltrain/TaxiMasked-v4", **kwargs)
        mask = ours.action_mask(in_states(ours, torch.arange(500)))
        assert mask.dtype == torch.bool
        np.testing.assert_array_equal(mask.numpy(), expected)


def test_a_fickle_passenger_changes_her_mind_once_when_first_driven() -> None:
    n = 9_000
    env = make_env("rltrain/Taxi-v4", fickle_passenger=True, fickle_probability=1.0)
    rng = torch.Generator().manual_seed(0)
    state = in_states(env, torch.full((n,), (0 * 5 + 0) * 4 + 1))  # taxi and passenger at R, destination G

    def do(action: int) -> Tensor:
        nonlocal state
        state, _, _ = env.step(state, torch.full((n,), action), rng)
        return state.number

    assert (do(0) == (5 * 5 + 0) * 4 + 1).all()  # driving without her changes nothing
    assert (do(1) == 1).all()
    assert (do(4) == (0 * 5 + 4) * 4 + 1).all()  # nor does getting in
    assert (do(1) == (0 * 5 + 4) * 4 + 1).all()  # nor driving against the wall
    moved = do(0)
    assert (moved // 4 == 5 * 5 + 4).all()
    assert_like(np.bincount(moved % 4, minlength=4), np.array([n / 3, 0, n / 3, n / 3]))
    assert (do(0) % 4 == moved % 4).all()  # once is enough


@pytest.mark.parametrize("is_fickle", [True, False])
def test_passengers_are_as_fickle_as_gymnasiums(is_fickle: bool) -> None:
    env = make_env("rltrain/Taxi-v4", fickle_passenger=is_fickle, is_rainy=True)
    share = env.reset(40_000, torch.Generator().manual_seed(0)).fickle.float().mean()
    assert float(share) == pytest.approx(0.3 if is_fickle else 0.0, abs=0.01)


@taxi
def test_fickle_rides_end_as_gymnasiums_do() -> None:
    """The same ride, many times over: pick up at R, two steps down; where does she want to go?"""
    kwargs = {"fickle_passenger": True, "fickle_probability": 0.6}
    theirs = gymnasium.make("Taxi-v4", **kwargs).unwrapped
    theirs.reset(seed=0)
    counts = np.zeros(4)
    for _ in range(3_000):
        theirs.reset()
        theirs.s = 1
        for action in (4, 0, 0):
            theirs.step(action)
        counts[theirs.s % 4] += 1
    vec = TensorVecEnv(make_env("rltrain/Taxi-v4", **kwargs), 30_000)
    vec.reset(0)
    state = type(vec.state)(torch.ones(30_000, dtype=torch.int64), vec.state.fickle)
    for action in (4, 0, 0):
        state, _, _ = vec.env.step(state, torch.full((30_000,), action), torch.Generator().manual_seed(1))
    assert_like(np.bincount(state.number % 4, minlength=4), 30_000 * np.array([0.2, 0.4, 0.2, 0.2]))
    assert_like(counts, 3_000 * np.array([0.2, 0.4, 0.2, 0.2]))


def test_a_larger_cliff() -> None:
    env = make_env("rltrain/CliffWalking-v1", n_rows=3, n_columns=5, step_reward=-2, cliff_reward=-7)
    after, reward, terminated = env.step(
        in_states(env, torch.tensor([10, 6, 9, 4, 5])), torch.tensor([1, 2, 2, 1, 3]), None
    )
    assert env.observe(after).tolist() == [10, 10, 14, 4, 5]  # off the cliff, off it again, the goal, against two edges
    assert reward.tolist() == [-7, -7, -2, -2, -2]
    assert terminated.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("FrozenLake-v1", {"map_name": "5x5"}, "map_name='5x5' is not known"),
        ("FrozenLake-v1", {"desc": ["SFG", "FF"]}, "is no map"),
        ("FrozenLake-v1", {"desc": ["SFX"]}, "is no map"),
        ("FrozenLake-v1", {"desc": "SFG"}, "is no map"),
        ("FrozenLake-v1", {"desc": []}, "is no map"),
        ("FrozenLake-v1", {"desc": ["FFG"]}, "has no start"),
        ("FrozenLake-v1", {"is_slippery": 1}, "is_slippery=1 is not known"),
        ("FrozenLake-v1", {"success_rate": 1.1}, "at most 1"),
        ("FrozenLake-v1", {"reward_schedule": (1, 0)}, "is no schedule"),
        ("FrozenLake-v1", {"reward_schedule": (1, 0, "much")}, "reward_schedule='much' is not a number"),
        ("CliffWalking-v1", {"n_rows": 1}, "at least 2"),
        ("CliffWalking-v1", {"n_columns": 2}, "at least 3"),
        ("Taxi-v4", {"rainy_probability": -0.1}, "at least 0"),
        ("Taxi-v4", {"fickle_passenger": "yes"}, "fickle_passenger='yes' is not known"),
    ],
)
def test_mistakes_are_named(name: str, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_env(f"rltrain/{name}", **wrong)
    assert words in f"{caught.value} {caught.value.fix}"
