"""Every episode has a new start, also in environments that draw starts only every few steps."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from rltrain.make import make_env, make_vec
from rltrain.registry import env_specs
from rltrain.spaces import random_actions
from rltrain.tree import leaves, tree_map

N = 32
INTERVAL = {env_id: make_env(env_id).reset_interval for env_id in env_specs()}
KEPT = [env_id for env_id, interval in INTERVAL.items() if interval > 1]
CLASSIC = [env_id for env_id, spec in env_specs().items() if spec.group == "classic"]
MINATAR = [env_id for env_id, spec in env_specs().items() if spec.group == "minatar"]


def starts_of(vec: Any) -> list[torch.Tensor]:
    return [leaf.clone() for leaf in leaves(vec.state_dict()["starts"])]


def alike(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_expensive_starts_are_kept() -> None:
    assert {"rltrain/MiniGrid-DoorKey-5x5-v0", "rltrain/JobShop-v0", *CLASSIC, *MINATAR} <= set(KEPT)


@pytest.mark.parametrize("env_id", ["rltrain/Taxi-v4", *KEPT])
def test_starts_are_drawn_anew_every_so_many_steps(env_id: str) -> None:
    vec = make_vec(env_id, N)
    vec.reset(0)
    rng, interval = torch.Generator().manual_seed(0), INTERVAL[env_id]
    always_the_same = all((leaf == leaf[:1]).all() for leaf in starts_of(vec))
    for k in range(1, 2 * interval + 1):
        before = starts_of(vec)
        vec.step(random_actions(vec.single_action_space, N, vec.device, rng))
        assert alike(before, starts_of(vec)) == (always_the_same or k % interval != 0)


@pytest.mark.parametrize("env_id", CLASSIC)
def test_no_episode_of_classic_control_ends_before_new_starts_are_drawn(env_id: str) -> None:
    """Every sequence of the strongest actions, from the edges of what an episode starts from."""
    env, steps = make_env(env_id, dtype=torch.float64), INTERVAL[env_id] - 1
    assert steps >= 7
    many = env.reset(100_000, torch.Generator().manual_seed(0))
    bounds = [(field.amin(), field.amax()) for field in leaves(many) if field.numel()]
    corners = torch.tensor(list(itertools.product(*bounds)), dtype=torch.float64)
    discrete = hasattr(env.action_space, "n")
    moves = torch.arange(env.action_space.n) if discrete else torch.tensor([-1.0, 0.0, 1.0])
    plans = torch.tensor(list(itertools.product(range(len(moves)), repeat=steps)))

    rows = torch.cartesian_prod(torch.arange(len(corners)), torch.arange(len(plans)))
    columns = iter(corners[rows[:, 0]].unbind(1))
    state = tree_map(lambda field: next(columns) if field.numel() else field.new_empty(len(rows), 0), many)
    for plan in plans[rows[:, 1]].unbind(1):
        action = moves[plan] if discrete else moves[plan].unsqueeze(1) * float(env.action_space.high[0])
        state, _, terminated = env.step(state, action, None)
        assert not terminated.any()


@pytest.mark.parametrize("env_id", MINATAR)
def test_no_game_ends_before_new_starts_are_drawn_unless_all_are_alike(env_id: str) -> None:
    env = make_env(env_id)
    state, rng = env.reset(4096, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    if all((leaf == leaf[:1]).all() for leaf in leaves(state)):
        return
    ended = torch.zeros(4096, dtype=torch.bool)
    for _ in range(env.reset_interval - 1):
        state, _, terminated = env.step(state, random_actions(env.action_space, 4096, env.device, rng), rng)
        ended |= terminated
    assert not ended.any()
