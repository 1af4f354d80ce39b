"""Mazes are perfect and their baseline takes the shortest path; Sokoban's levels can be solved by its rules."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rltrain.envs.grid.maze import Maze
from rltrain.envs.grid.sokoban import Sokoban
from rltrain.errors import ConfigError
from rltrain.make import make_env, make_vec

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left


def plane(obs: Tensor, row: int, channel: int) -> set[tuple[int, int]]:
    """The squares of one plane of one observation."""
    return set(map(tuple, np.argwhere(obs[row, :, :, channel].numpy()).tolist()))


def distances(walls: set, goal: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Steps to the goal from every square that leads there."""
    found, queue = {goal: 0}, deque([goal])
    while queue:
        r, c = queue.popleft()
        for dr, dc in STEPS:
            beside = (r + dr, c + dc)
            if beside not in walls and beside not in found:
                found[beside] = found[r, c] + 1
                queue.append(beside)
    return found


@pytest.mark.parametrize("size", [9, 11, 15])
def test_mazes_are_perfect(size: int) -> None:
    env = make_env("rltrain/Maze-v0", size=size, num_levels=40)
    assert isinstance(env, Maze)
    obs = env.observe(env.reset(40, torch.Generator().manual_seed(0)))
    rooms = ((size - 1) // 2) ** 2
    for row in range(40):
        walls, goals, agents = (plane(obs, row, channel) for channel in range(3))
        free = {(r, c) for r in range(size) for c in range(size)} - walls
        assert len(free) == 2 * rooms - 1  # as many passages as a tree of the rooms has edges
        reachable = distances(walls, *goals)
        assert set(reachable) == free
        assert len(agents) == 1
        assert agents < free - goals


def test_the_baseline_walks_the_shortest_way() -> None:
    vec = make_vec("rltrain/Maze-v0", 128)
    obs = vec.reset(0)
    assert isinstance(obs, Tensor)
    shortest = []
    for row in range(128):
        walls, goals, agents = (plane(obs, row, channel) for channel in range(3))
        shortest.append(distances(walls, *goals)[next(iter(agents))])
    open_rows = torch.ones(128, dtype=torch.bool)
    for _ in range(max(shortest)):
        step = vec.step(vec.env.baseline(vec.state))
        for row in (step.terminated & open_rows).nonzero()[:, 0].tolist():
            assert int(step.episode_length[row]) == shortest[row]
            assert float(step.episode_return[row]) == pytest.approx(1 - 0.01 * shortest[row], abs=1e-5)
            assert bool(step.info["is_success"][row])
        open_rows &= ~step.terminated
    assert not open_rows.any()
    assert 11 < sum(shortest) / 128 < 18  # a walk, not a step


def test_a_maze_by_its_rules() -> None:
    n = 24
    vec = make_vec("rltrain/Maze-v0", n, goal_reward=2.0, step_cost=0.5)
    obs, rng, bumps, ends = vec.reset(1), torch.Generator().manual_seed(1), 0, 0
    for _ in range(300):
        assert isinstance(obs, Tensor)
        action = torch.randint(4, (n,), generator=rng)
        step = vec.step(action)
        for row in range(n):
            walls, goals, agents = (plane(obs, row, channel) for channel in range(3))
            (r, c), (dr, dc) = next(iter(agents)), STEPS[int(action[row])]
            ahead = (r, c) if (r + dr, c + dc) in walls else (r + dr, c + dc)
            bumps += ahead == (r, c)
            ends += ahead in goals
            assert isinstance(step.final_obs, Tensor)
            assert plane(step.final_obs, row, 2) == {ahead}
            assert bool(step.terminated[row]) == (ahead in goals)
            assert float(step.reward[row]) == (1.5 if ahead in goals else -0.5)
        obs = step.obs
    assert bumps > 1000
    assert ends > 3


class PlainSokoban:
    """The rules for one board, on sets of squares."""

    def __init__(self, obs: Tensor, row: int) -> None:
        self.walls, self.targets, self.boxes, players = (plane(obs, row, channel) for channel in range(4))
        (self.player,) = players

    def step(self, action: int) -> tuple[float, bool]:
        dr, dc = STEPS[action]
        ahead, beyond = [(self.player[0] + k * dr, self.player[1] + k * dc) for k in (1, 2)]
        before = len(self.boxes & self.targets)
        if ahead in self.walls or (ahead in self.boxes and beyond in self.walls | self.boxes):
            return -0.1, False
        if ahead in self.boxes:
            self.boxes = self.boxes - {ahead} | {beyond}
        self.player = ahead
        done = self.boxes == self.targets
        return len(self.boxes & self.targets) - before - 0.1 + 10 * done, done


def solve(game: PlainSokoban) -> tuple[list[int], int]:
    """A shortest solution by breadth-first search, and the pushes in it."""
    start = (game.player, frozenset(game.boxes))
    came: dict[Any, Any] = {start: None}
    queue = deque([start])
    while queue:
        player, boxes = here = queue.popleft()
        if boxes == game.targets:
            actions, pushes = [], 0
            while came[here] is not None:
                before, action = came[here]
                actions.append(action)
                pushes += before[1] != here[1]
                here = before
            return actions[::-1], pushes
        for action in range(4):
            game.player, game.boxes = player, set(boxes)
            game.step(action)
            after = (game.player, frozenset(game.boxes))
            if after not in came:
                came[after] = ((player, boxes), action)
                queue.append(after)
    raise AssertionError("no solution")


@pytest.mark.parametrize("constants", [{}, {"size": 8, "num_boxes": 3, "min_pushes": 7, "num_levels": 100}])
def test_levels_can_be_solved_and_need_several_pushes(constants: dict[str, int]) -> None:
    env = make_env("rltrain/Sokoban-v0", **constants)
    assert isinstance(env, Sokoban)
    n = 12 if constants else 60
    state = env.reset(n, torch.Generator().manual_seed(0))
    obs = env.observe(state)
    solutions = [solve(PlainSokoban(obs, row)) for row in range(n)]
    assert min(pushes for _, pushes in solutions) >= constants.get("min_pushes", 5)
    assert np.median([len(actions) for actions, _ in solutions]) >= 11

    returns, ended = torch.zeros(n), torch.zeros(n, dtype=torch.bool)  # played in the environment, they do solve it
    for k in range(max(len(actions) for actions, _ in solutions)):
        action = torch.tensor([actions[min(k, len(actions) - 1)] for actions, _ in solutions])
        state, reward, terminated = env.step(state, action, None)
        returns += reward.where(~ended, 0)
        assert torch.equal(terminated & ~ended, torch.tensor([len(a) == k + 1 for a, _ in solutions]))
        ended |= terminated
    boxes = constants.get("num_boxes", 2)
    expected = torch.tensor([10 + boxes - 0.1 * len(actions) for actions, _ in solutions])
    torch.testing.assert_close(returns, expected)


def test_sokoban_by_its_rules() -> None:
    n = 24
    vec = make_vec("rltrain/Sokoban-v0", n, num_boxes=3, min_pushes=3, num_levels=200)
    obs, rng = vec.reset(0), torch.Generator().manual_seed(0)
    assert isinstance(obs, Tensor)
    games = [PlainSokoban(obs, row) for row in range(n)]
    seen = {"on": 0, "off": 0, "stopped": 0, "pushed": 0}
    for _ in range(300):
        action = torch.randint(4, (n,), generator=rng)
        step = vec.step(action)
        assert isinstance(step.obs, Tensor)
        assert isinstance(step.final_obs, Tensor)
        for row, game in enumerate(games):
            before = (game.player, game.boxes)
            reward, done = game.step(int(action[row]))
            seen["on"] += reward > 0.5
            seen["off"] += reward < -0.5
            seen["stopped"] += game.player == before[0]
            seen["pushed"] += game.boxes != before[1]
            assert float(step.reward[row]) == pytest.approx(reward, abs=1e-5)
            assert bool(step.terminated[row]) == bool(step.info["is_success"][row]) == done
            assert int(step.info["boxes_on_target"][row]) == len(game.boxes & game.targets)
            for channel, squares in enumerate((game.walls, game.targets, game.boxes, {game.player})):
                assert plane(step.final_obs, row, channel) == squares
            if done or step.truncated[row]:
                games[row] = PlainSokoban(step.obs, row)
    assert min(seen.values()) > 10, seen


def test_sokoban_says_when_there_are_no_such_levels() -> None:
    with pytest.raises(ConfigError, match="different levels"):
        make_env("rltrain/Sokoban-v0", size=6, num_boxes=1, min_pushes=7)
