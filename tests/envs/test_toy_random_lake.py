"""Random lakes: each can be crossed, their distribution is Gymnasium's, and the ice is FrozenLake's."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from test_toy import worth_within
from torch import Tensor

from rltrain.envs.toy.frozen_lake_random import FrozenLakeRandom, FrozenLakeRandomState
from rltrain.errors import ConfigError
from rltrain.make import make_env


def lakes(env: FrozenLakeRandom, n: int, seed: int = 0) -> Tensor:
    """(n, size, size) bool."""
    holes = env.reset(n, torch.Generator().manual_seed(seed)).holes
    return holes.view(n, env.size, env.size)


def distance(holes: np.ndarray) -> float:
    """Steps from the top left to the bottom right."""
    size = len(holes)
    found, ahead = {(0, 0): 0}, deque([(0, 0)])
    while ahead:
        row, column = ahead.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if min(cell) >= 0 and max(cell) < size and not holes[cell] and cell not in found:
                found[cell] = found[row, column] + 1
                ahead.append(cell)
    return found.get((size - 1, size - 1), math.inf)


@pytest.mark.parametrize("frozen_probability", [0.8, 0.5, 0.0])
@pytest.mark.parametrize("size", [4, 7, 8])
def test_every_lake_can_be_crossed(size: int, frozen_probability: float) -> None:
    env = FrozenLakeRandom(size=size, frozen_probability=frozen_probability)
    drawn = lakes(env, 300).numpy()
    assert max(distance(holes) for holes in drawn) <= 3 * size
    assert not drawn[:, 0, 0].any()
    assert not drawn[:, -1, -1].any()
    if frozen_probability == 0:  # then the way along the edge is all there is
        assert (drawn.sum((1, 2)) == size * size - (2 * size - 1)).all()


@pytest.mark.parametrize("size", range(4, 9))
def test_crossings_are_found_where_there_are_any(size: int) -> None:
    env = FrozenLakeRandom(size=size)
    for frozen in (0.85, 0.7, 0.6):
        holes = torch.rand(500, size * size, generator=torch.Generator().manual_seed(size)) >= frozen
        holes[:, 0] = holes[:, -1] = False
        expected = [distance(lake) <= 3 * size // 2 * 2 for lake in holes.view(-1, size, size).numpy()]
        assert env._can_be_crossed(holes).tolist() == expected
        assert 0 < sum(expected) < 500


def test_a_way_that_winds_is_found() -> None:
    rows = ["S.......", "#######.", "........", ".#######", "........", "#######.", "........", "#######G"]
    holes = torch.tensor([[letter == "#" for letter in row] for row in rows])
    assert distance(holes.numpy()) == 28
    env = FrozenLakeRandom()
    assert not env._can_be_crossed(holes.flatten()[None]).any()  # longer than 24
    holes[5, 0] = holes[5, 1] = False
    holes[3, 6] = False
    assert distance(holes.numpy()) <= 24
    assert env._can_be_crossed(holes.flatten()[None]).all()


@pytest.mark.parametrize(("size", "frozen"), [(8, 0.8), (4, 0.75)])
def test_lakes_are_spread_as_gymnasiums(size: int, frozen: float) -> None:
    n_theirs, n_ours = 1_500, 30_000
    ours = lakes(FrozenLakeRandom(size=size, frozen_probability=frozen), n_ours).double().numpy()
    maps = [generate_random_map(size, frozen, seed) for seed in range(n_theirs)]
    theirs = np.array([[[letter == "H" for letter in row] for row in lake] for lake in maps], dtype=float)
    for looks in (lambda x: x, lambda x: x[:, 1:] * x[:, :-1], lambda x: x.sum((1, 2))):  # cells, pairs, their number
        a, b = looks(ours), looks(theirs)
        error = np.sqrt(a.var(0) * (1 / n_ours + 1 / n_theirs))
        assert (np.abs(a.mean(0) - b.mean(0)) <= 4.5 * error + 1e-12).all()


def test_lakes_differ_between_rows_and_episodes() -> None:
    env = FrozenLakeRandom()
    rng = torch.Generator().manual_seed(0)
    drawn = torch.cat([env.reset(64, rng).holes for _ in range(2)])
    assert len(drawn.unique(dim=0)) == 128


@pytest.mark.parametrize(
    "kwargs", [{}, {"is_slippery": False}, {"success_rate": 0.8, "reward_schedule": (3.0, -1.0, -0.1)}], ids=str
)
def test_the_ice_is_frozen_lakes(kwargs: dict[str, Any]) -> None:
    env = FrozenLakeRandom(size=5, **kwargs)
    all_cells = torch.arange(25).repeat_interleave(40)
    actions = torch.arange(4).repeat(250)
    for seed, holes in enumerate(lakes(env, 8)):
        letters = ["".join("FH"[hole] for hole in row) for row in holes.long().tolist()]
        letters[0], letters[-1] = f"S{letters[0][1:]}", f"{letters[-1][:-1]}G"
        twin = make_env("rltrain/FrozenLake-v1", desc=letters, **kwargs)
        on_ice = torch.tensor([letter in "SF" for letter in "".join(letters)])[all_cells]
        cells, action = all_cells[on_ice], actions[on_ice]
        state = FrozenLakeRandomState(cells, holes.flatten().expand(len(cells), -1))
        ours = env.step(state, action, torch.Generator().manual_seed(seed))
        theirs = twin.step(type(twin.reset(1, None))(cells), action, torch.Generator().manual_seed(seed))
        assert torch.equal(ours[0].cell, theirs[0].cell)
        assert torch.equal(ours[1], theirs[1])
        assert torch.equal(ours[2], theirs[2])
        assert torch.equal(env.info(ours[0])["is_success"], twin.info(theirs[0])["is_success"])

        policy = env.baseline(FrozenLakeRandomState(torch.arange(25), holes.flatten().expand(25, -1)))
        assert worth_within(twin, 100, policy)[0] >= worth_within(twin, 100)[0] - 0.03


def test_the_observation_shows_walker_holes_and_goal() -> None:
    env = FrozenLakeRandom(size=4)
    holes = torch.zeros(2, 16, dtype=torch.bool)
    holes[0, 6] = holes[1, 9] = True
    obs = env.observe(FrozenLakeRandomState(torch.tensor([0, 11]), holes))
    assert obs.shape == (2, 3, 4, 4)
    assert obs[0].nonzero().tolist() == [[0, 0, 0], [1, 1, 2], [2, 3, 3]]
    assert obs[1].nonzero().tolist() == [[0, 2, 3], [1, 2, 1], [2, 3, 3]]


@pytest.mark.parametrize("wrong", [{"size": 3}, {"size": 9}, {"frozen_probability": 1.5}, {"reward_schedule": [1]}])
def test_mistakes_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_env("rltrain/FrozenLakeRandom-v0", **wrong)
