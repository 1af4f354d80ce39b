"""FrozenLakeRandom: cross a frozen lake whose holes differ in every episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.envs.toy.frozen_lake import MOVES, checked_rewards, draw_lake
from rltrain.envs.toy.tables import slip, walk
from rltrain.tree import view_as_bools, view_bools

TRIES = 4  # lakes drawn for every start, of which the first that can be crossed is taken


@dataclass
class FrozenLakeRandomState:
    """Where the walker and the holes are."""

    cell: Tensor  # (N,) int64, counted row by row from the top left
    holes: Tensor  # (N, size * size) bool, whether there is a hole, by cell


class FrozenLakeRandom(TensorEnv[FrozenLakeRandomState]):
    """FrozenLake with a new lake in every episode, which the observation shows.

    Observation: (N, 3, size, size) bool: the walker, the holes, the goal.
    Action: 0 left, 1 down, 2 right, 3 up; a step off the board leads nowhere.
    Reward: ``reward_schedule``: by default 1 for the step onto the goal, otherwise 0.
    Episode end: on the goal, at the bottom right, or in a hole.
    Source: Gymnasium 1.4, ``envs/toy_text/frozen_lake.py``, ``generate_random_map``, which draws one
        lake for all episodes.
    Baseline: plans 15 * ``size`` steps ahead, by value iteration with discount 0.999 on each lake; nearly optimal.

    Every cell but the start and the goal is frozen with probability ``frozen_probability``. A lake that cannot be
    crossed in 3 * ``size`` steps is drawn anew, as in Gymnasium, where any way is short enough. Should 4 lakes in a row
    be like that, the cells along the top and down the right are frozen: with the defaults, once in 1,700 episodes.

    Args:
        size: Rows and columns of the lake.
        frozen_probability: Probability that a cell is frozen.
        is_slippery: Whether the ice is slippery: see :class:`~rltrain.envs.toy.frozen_lake.FrozenLake`.
        success_rate: Probability of moving in the chosen direction on slippery ice.
        reward_schedule: Rewards of a step onto the goal, into a hole and onto the ice.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range: ``size`` not from 4 to 8, or a probability not from 0 to 1.
    """

    max_episode_steps = 200
    reset_interval = 16
    render_fps = 4

    def __init__(
        self,
        *,
        size: int = 8,
        frozen_probability: float = 0.8,
        is_slippery: bool = True,
        success_rate: float = 1 / 3,
        reward_schedule: Sequence[float] = (1.0, 0.0, 0.0),
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.size = self.whole("size", size, at_least=4, at_most=8)  # so that a lake fits into the bits of an int64
        self.frozen_probability = self.constant("frozen_probability", frozen_probability, at_least=0, at_most=1)
        self.is_slippery = self.choice("is_slippery", is_slippery, (True, False))
        self.success_rate = self.constant("success_rate", success_rate, at_least=0, at_most=1)
        goal, hole, ice = checked_rewards(self, reward_schedule)
        self._rewards = torch.tensor([ice, hole, goal], device=self.device, dtype=self.dtype)

        self.cells = size * size
        neighbours = [[walk(cell, move, size, size) for move in MOVES] for cell in range(self.cells)]
        self._neighbours = torch.tensor(neighbours, device=self.device)  # (cells, 4), by direction
        self._numbers = torch.arange(self.cells, device=self.device)
        row, column = self._numbers // size, self._numbers % size
        self._at_goal = self._numbers == self.cells - 1
        self._at_either_end = self._at_goal | (self._numbers == 0)
        self._along_the_edge = (row == 0) | (column == size - 1)
        self._not_left, self._not_right, self._not_below = (
            self._pack(side) for side in (column > 0, column < size - 1, row < size - 1)
        )
        self.observation_space = spaces.Box(0, 1, (3, size, size), dtype=np.bool_)
        self.action_space = spaces.Discrete(len(MOVES))

    def reset(self, n: int, rng: torch.Generator | None) -> FrozenLakeRandomState:
        """At the top left of a new lake."""
        chance = torch.rand(n, TRIES, self.cells, generator=rng, device=self.device)
        lakes = (chance >= self.frozen_probability) & ~self._at_either_end
        order = torch.arange(TRIES, 0, -1, device=self.device)
        merit = self._can_be_crossed(lakes) * order  # (n, TRIES), the more the earlier
        best, chosen = merit.max(dim=1)
        holes = lakes.gather(1, chosen.view(-1, 1, 1).expand(-1, 1, self.cells)).squeeze(1)
        holes = holes & ((best > 0).unsqueeze(1) | ~self._along_the_edge)
        return FrozenLakeRandomState(torch.zeros(n, dtype=torch.int64, device=self.device), holes)

    def _can_be_crossed(self, lakes: Tensor) -> Tensor:
        """Whether the goal can be reached from the start in 3 * size steps: (...,) bool for holes (..., cells) bool.

        All cells of a lake are the bits of one number, and a step from all cells that can be reached is a shift.
        From the start and from the goal at once: half the steps from each, and there is a way if they meet.
        """
        free = self._pack(~lakes)
        to_right, to_left, upwards = free & self._not_left, free & self._not_right, free & self._not_below
        corner = self._pack(self._at_either_end)
        start = torch.ones_like(free)
        reached = torch.stack((start, corner - start))
        for _ in range(3 * self.size // 2):
            sideways = reached | ((reached << 1) & to_right) | ((reached >> 1) & to_left)
            reached = sideways | ((reached << self.size) & free) | ((reached >> self.size) & upwards)
        from_start, from_goal = reached.unbind()
        return (from_start & from_goal) != 0

    def _pack(self, cells: Tensor) -> Tensor:
        """Cells (..., cells) bool as the bits of an int64 (...,)."""
        return (cells.to(torch.int64) << self._numbers).sum(-1)

    def step(
        self, state: FrozenLakeRandomState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[FrozenLakeRandomState, Tensor, Tensor]:
        """One step on the ice."""
        direction = action
        if self.is_slippery:
            direction = (action + slip(len(action), self.success_rate, rng) - 1) % len(MOVES)
        cell = self._neighbours[state.cell, direction]
        in_hole = state.holes.gather(1, cell.unsqueeze(1)).squeeze(1)
        at_goal = cell == self.cells - 1
        reward = self._rewards[torch.add(in_hole.to(torch.int64), at_goal, alpha=2)]
        return FrozenLakeRandomState(cell, state.holes), reward, in_hole | at_goal

    def observe(self, state: FrozenLakeRandomState) -> Tensor:
        """Walker, holes and goal as planes: (N, 3, size, size)."""
        # Compiled code is faster with bytes than with bools.
        holes, goal = view_bools(state.holes, torch.uint8), view_bools(self._at_goal, torch.uint8)
        walker = torch.zeros_like(holes).scatter_(1, state.cell.unsqueeze(1), 1)
        planes = torch.cat((walker, holes, goal.expand_as(walker)), dim=1)
        return view_as_bools(planes).view(-1, 3, self.size, self.size)

    def info(self, state: FrozenLakeRandomState) -> dict[str, Tensor]:
        """Success is to be on the goal."""
        return {"is_success": state.cell == self.cells - 1}

    def baseline(self, state: FrozenLakeRandomState) -> Tensor:
        """The best action (N,), by 15 * size sweeps over each lake."""
        reward = self._rewards[torch.add(state.holes.to(torch.int64), self._at_goal, alpha=2)]  # of entering a cell
        goes_on = 0.999 * ~(state.holes | self._at_goal)
        aside = (1 - self.success_rate) / 2
        values = torch.zeros_like(reward)
        for _ in range(15 * self.size):
            worth = torch.addcmul(reward, goes_on, values)[:, self._neighbours]  # (N, cells, 4), by direction
            if self.is_slippery:
                worth = self.success_rate * worth + aside * (worth.roll(1, -1) + worth.roll(-1, -1))
            values = worth.amax(-1)
        here = state.cell.view(-1, 1, 1).expand(-1, 1, len(MOVES))
        return worth.gather(1, here).squeeze(1).argmax(-1)

    def render(self, state: FrozenLakeRandomState, index: int = 0) -> Tensor:
        """The lake from above: start, holes, goal and walker, about (500, 500, 3) uint8."""
        cells = ["H" if hole else "F" for hole in state.holes[index].tolist()]
        cells[0], cells[-1] = "S", "G"
        rows = ["".join(cells[i : i + self.size]) for i in range(0, self.cells, self.size)]
        return draw_lake(rows, int(state.cell[index]))
