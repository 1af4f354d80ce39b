"""Maze: find the way through a maze, and through mazes that were not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, PAPER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.grid.levels import SPLITS, Levels, level_bank

FREE, WALL, GOAL, START = range(4)  # contents of a square of a level


@dataclass
class MazeState:
    """The maze, and where the agent is."""

    level: Tensor  # (N,) int64, index in the split
    position: Tensor  # (N,) int64, the agent's square, counted row by row from the top left


class Maze(TensorEnv[MazeState]):
    """Walk to the goal of a maze that has exactly one way between any two places.

    Observation: (N, size, size, 3) uint8, planes of 0 and 1: walls, the goal, the agent.
    Action: 0 up, 1 right, 2 down, 3 left; against a wall the agent stays where it is.
    Reward: ``goal_reward`` for reaching the goal, minus ``step_cost`` for every step.
    Episode end: the goal is reached.
    Source: randomised depth-first search, as in Buck, "Mazes for Programmers", 2015; levels to train on and others to
        be tested on as in Cobbe et al., "Leveraging Procedural Generation to Benchmark Reinforcement Learning", 2020.
    Baseline: the shortest path.

    Every episode is in one of the split's levels, each as likely: a maze with its start and goal. No level of one split
    is in another, turned or reflected ones included; see :mod:`rltrain.envs.grid.levels`. To measure generalisation,
    train on one split and evaluate on another::

        rltrain train ppo rltrain/Maze-v0 --env.kwargs.num-levels 200
        rltrain eval RUN
        rltrain eval RUN --env.kwargs.split test

    ``info`` has the level's index.

    Args:
        size: Squares along a side, the walls around included; odd.
        split: Which levels: train, validation or test.
        num_levels: Levels of the split train; the other two have 500 each.
        level_seed: Seed of the levels, which are assigned to the splits by the same rule.
        goal_reward: Reward for reaching the goal.
        step_cost: Cost of a step.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range.
    """

    max_episode_steps = 100
    render_fps = 10

    def __init__(
        self,
        *,
        size: int = 9,
        split: str = "train",
        num_levels: int = 1000,
        level_seed: int = 0,
        goal_reward: float = 1.0,
        step_cost: float = 0.01,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.size = self.choice("size", size, range(9, 42, 2))
        self.goal_reward = self.constant("goal_reward", goal_reward)
        self.step_cost = self.constant("step_cost", step_cost)
        self.observation_space = spaces.Box(0, 1, (self.size, self.size, 3), dtype=np.uint8)
        self.action_space = spaces.Discrete(4)

        levels = maze_levels(
            self.size,
            self.choice("split", split, SPLITS),
            self.whole("num_levels", num_levels, at_least=1),
            self.whole("level_seed", level_seed, at_least=0),
        )
        board = levels["board"].to(self.device).flatten(1)
        self.num_levels, self.cells = board.shape
        self._planes = (
            torch.stack((board == WALL, board == GOAL, torch.zeros_like(board)), -1).flatten(1).to(torch.uint8)
        )
        self._walls = (board == WALL).flatten()  # (L * cells,)
        self._route = levels["route"].to(self.device).flatten()  # (L * cells,) the action that leads to the goal
        self._start = (board == START).to(torch.uint8).argmax(1)  # (L,)
        self._goal = (board == GOAL).to(torch.uint8).argmax(1)  # (L,)
        self._offset = torch.tensor([-self.size, 1, self.size, -1], device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> MazeState:
        """At the start of a random level."""
        level = torch.randint(self.num_levels, (n,), generator=rng, device=self.device)
        return MazeState(level, self._start.index_select(0, level))

    def step(self, state: MazeState, action: Tensor, rng: torch.Generator | None) -> tuple[MazeState, Tensor, Tensor]:
        """One square on, unless a wall is there."""
        ahead = state.position + self._offset.index_select(0, action)
        blocked = self._walls.index_select(0, state.level * self.cells + ahead)
        after = MazeState(state.level, torch.where(blocked, state.position, ahead))
        arrived = self._arrived(after)
        return after, self.goal_reward * arrived - self.step_cost, arrived

    def observe(self, state: MazeState) -> Tensor:
        """The three planes, (N, size, size, 3) uint8."""
        planes = self._planes.index_select(0, state.level)
        planes.scatter_(1, (3 * state.position + 2).unsqueeze(1), 1)
        return planes.view(-1, self.size, self.size, 3)

    def info(self, state: MazeState) -> dict[str, Tensor]:
        """The level's index, and whether the goal is reached."""
        return {"level": state.level, "is_success": self._arrived(state)}

    def baseline(self, state: MazeState) -> Tensor:
        """The shortest path, which is the only one."""
        return self._route.index_select(0, state.level * self.cells + state.position).to(torch.int64)

    def _arrived(self, state: MazeState) -> Tensor:
        return state.position == self._goal.index_select(0, state.level)

    def render(self, state: MazeState, index: int = 0) -> Tensor:
        """The maze from above, about (440, 440, 3) uint8."""
        size, level = self.size, int(state.level[index])
        pixels = size * (440 // size)
        canvas = Canvas(pixels, pixels, world=(0, 0, size, size), background=PAPER)
        for square, (wall, goal, _) in enumerate(self._planes[level].view(-1, 3).tolist()):
            row, column = divmod(square, size)
            if wall:
                canvas.tile(row, column, INK, inset=-0.01)
            elif goal:
                canvas.tile(row, column, GREEN, inset=0.08, radius=0.15)
                x, y = canvas.tile_center(row, column)
                canvas.line([(x - 0.15, y - 0.28), (x - 0.15, y + 0.28)], PAPER, width=0.07)
                canvas.polygon([(0, 0.28), (0.36, 0.12), (0, -0.04)], PAPER, at=(x - 0.15, y))
        x, y = canvas.tile_center(*divmod(int(state.position[index]), size))
        canvas.circle((x, y), 0.36, BLUE)
        for eye in (-0.13, 0.13):
            canvas.circle((x + eye, y + 0.06), 0.08, PAPER)
        return canvas.picture()


@lru_cache(maxsize=8)
def maze_levels(size: int, split: str, num_levels: int, level_seed: int) -> Levels:
    """The boards of a split, and the ``route`` (L, S, S) uint8 to the goal: the action to take on each square."""
    return level_bank(
        f"Maze of size {size}",
        lambda n, rng: generate_mazes(size, n, rng),
        split=split,
        num_levels=num_levels,
        level_seed=level_seed,
        batch=2048,
    )


def generate_mazes(size: int, n: int, rng: torch.Generator) -> Levels:
    """Digs ``n`` mazes from the goal by depth-first search, so that the way back from anywhere leads there.

    Rooms are at the squares with odd coordinates. A digger goes to a random neighbouring room where it has not been,
    or else back to where it came from. It passes every passage twice, once in each direction.
    """
    odd = torch.arange(1, size, 2)
    rooms = (odd.unsqueeze(1) * size + odd).flatten()
    offset = torch.tensor([-size, 1, size, -1])
    goal, apart = torch.randint(len(rooms), (n, 1), generator=rng), torch.randint(1, len(rooms), (n, 1), generator=rng)
    start = rooms[(goal + apart) % len(rooms)]
    goal = rooms[goal]

    board = torch.full((n, size * size), WALL, dtype=torch.uint8).scatter_(1, goal, FREE)
    route = torch.zeros(n, size * size, dtype=torch.int64)
    fresh = torch.zeros(n, size * size, dtype=torch.bool)
    fresh[:, rooms] = True
    fresh.scatter_(1, goal, False)
    here = goal
    for _ in range(2 * (len(rooms) - 1)):
        rooms_around = (here + 2 * offset).clamp(0, size * size - 1)  # corners, which are no rooms, for those outside
        chance, action = ((1 - torch.rand(n, 4, generator=rng)) * fresh.gather(1, rooms_around)).max(1, keepdim=True)
        digs = chance > 0
        step = offset[torch.where(digs, action, route.gather(1, here))]
        dug = torch.cat((here + step, here + 2 * step), 1)
        board.scatter_(1, dug, FREE)
        fresh.scatter_(1, dug, False)
        route.scatter_(
            1, torch.where(digs, dug, here), torch.where(digs, (action + 2) % 4, route.gather(1, here)).expand(-1, 2)
        )
        here = dug[:, 1:]
    board.scatter_(1, goal, GOAL).scatter_(1, start, START)
    return {"board": board.view(n, size, size), "route": route.to(torch.uint8).view(n, size, size)}
