"""DeepSea: dive down to the right at every step, although each such step costs a little and only the last one pays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, INK, ORANGE, PAPER, YELLOW, Canvas
from rltrain.env import TensorEnv


@dataclass
class DeepSeaState:
    """Where the diver is."""

    row: Tensor  # (N,) int64, 0 at the surface; ``size`` once on the ground, where the episode is over
    column: Tensor  # (N,) int64, 0 at the left
    found: Tensor  # (N,) bool, whether the last step found the treasure


class DeepSea(TensorEnv[DeepSeaState]):
    """bsuite's deep sea: exploring at random finds the treasure once in 2^size episodes.

    Observation: (N, size, size): 1 in the cell where the diver is, 0 elsewhere; all 0 on the ground.
    Action: 0 or 1. Both lead one row down: one of them a column to the right, the other to the left; which is which is
        drawn for each cell by ``mapping_seed``, once and for all episodes.
    Reward: 1 for going right from the cell at the bottom right; minus ``unscaled_move_cost`` / size for every step to
        the right; otherwise 0.
    Episode end: after ``size`` steps, on the ground.
    Source: Osband et al., "Deep Exploration via Randomized Value Functions", 2019, arXiv:1703.07608; "Behaviour Suite
        for Reinforcement Learning", 2020, arXiv:1908.03568, experiments deep_sea and deep_sea_stochastic; bsuite 0.3.6,
        ``environments/deep_sea.py``.
    Baseline: right while on the diagonal, left when off it, where there is nothing to find. No policy can do better.

    The best return is 1 - ``unscaled_move_cost``. Random actions earn 2^-size - ``unscaled_move_cost`` / 2, and an
    agent that has not yet seen the treasure learns to go left, for 0. Where it is stochastic, the current keeps the
    diver in the same column in one of ``size`` steps to the right, and standard normal noise is added to the reward of
    a last step from the first or the last column.

    Args:
        size: Rows and columns.
        deterministic: Whether there is neither current nor noise.
        unscaled_move_cost: What going right all the way costs.
        randomize_actions: Whether the cells differ in which action leads to the right; otherwise it is 1.
        mapping_seed: Of these differences; equal seeds give equal seas, here and in bsuite, whose own is 42.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range: ``size`` below 2, or ``unscaled_move_cost`` below 0.
    """

    reward_threshold = 0.9  # the treasure is found in nine of ten episodes
    render_fps = 5

    def __init__(
        self,
        *,
        size: int = 10,
        deterministic: bool = True,
        unscaled_move_cost: float = 0.01,
        randomize_actions: bool = True,
        mapping_seed: int = 42,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.size = self.whole("size", size, at_least=2)
        self.deterministic = self.choice("deterministic", deterministic, (True, False))
        self.unscaled_move_cost = self.constant("unscaled_move_cost", unscaled_move_cost, at_least=0)
        self.randomize_actions = self.choice("randomize_actions", randomize_actions, (True, False))
        self.mapping_seed = self.whole("mapping_seed", mapping_seed, at_least=0, at_most=2**32 - 1)
        mapping = np.ones((size + 1, size), dtype=np.int64)  # with a row for the ground
        if randomize_actions:  # by NumPy, so that the seas are bsuite's
            mapping[:size] = np.random.RandomState(mapping_seed).binomial(1, 0.5, (size, size))
        self.to_the_right = torch.as_tensor(mapping, device=self.device).flatten()  # action by cell
        self.observation_space = spaces.Box(0.0, 1.0, (size, size), dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> DeepSeaState:
        """At the top left."""
        zero = torch.zeros(n, dtype=torch.int64, device=self.device)
        return DeepSeaState(zero, zero, torch.zeros(n, dtype=torch.bool, device=self.device))

    def step(
        self, state: DeepSeaState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[DeepSeaState, Tensor, Tensor]:
        """One row down."""
        right = action == self.to_the_right[self._cell(state)]
        in_last_column = state.column == self.size - 1
        found = right & in_last_column  # which is reached at the ground at the earliest
        reward = found.to(self.dtype) - right * (self.unscaled_move_cost / self.size)
        moved = right
        if not self.deterministic:
            at_an_end = (state.row == self.size - 1) & (in_last_column | (state.column == 0))
            noise = torch.randn(reward.shape, generator=rng, device=self.device, dtype=self.dtype)
            reward = reward + at_an_end * noise
            current = torch.rand(reward.shape, generator=rng, device=self.device, dtype=self.dtype)
            moved = right & (current > 1 / self.size)
        aside = right.to(torch.int64) + moved - 1  # 1 to the right, 0 held by the current, -1 to the left
        row = (state.row + 1).clamp(max=self.size)
        return DeepSeaState(row, (state.column + aside).clamp(0, self.size - 1), found), reward, row == self.size

    def observe(self, state: DeepSeaState) -> Tensor:
        """One-hot (N, size, size)."""
        cells = self.size * self.size
        nowhere = torch.zeros(len(state.row), cells, device=self.device, dtype=self.dtype)
        in_the_sea = (state.row < self.size).to(self.dtype).unsqueeze(1)
        cell = self._cell(state).clamp(max=cells - 1).unsqueeze(1)
        return nowhere.scatter_(1, cell, in_the_sea).view(-1, self.size, self.size)

    def info(self, state: DeepSeaState) -> dict[str, Tensor]:
        """Whether the treasure was found."""
        return {"is_success": state.found}

    def baseline(self, state: DeepSeaState) -> Tensor:
        """To the right as long as that can lead to the treasure."""
        right = self.to_the_right[self._cell(state)]
        return torch.where(state.row == state.column, right, 1 - right)

    def _cell(self, state: DeepSeaState) -> Tensor:
        """(N,) int64: number of the diver's cell, row by row."""
        return state.row * self.size + state.column

    def render(self, state: DeepSeaState, index: int = 0) -> Tensor:
        """The sea, with the action that leads to the right in the cells that can be reached, (550, 500, 3) uint8."""
        size, row, column = self.size, int(state.row[index]), int(state.column[index])
        to_the_right = self.to_the_right.tolist()
        canvas = Canvas(500, 550, world=(0, -1, size, size), background="#d8c9a3")
        for r in range(size):
            shade = [int(light - dark * r / size) for light, dark in ((214, 130), (232, 110), (244, 80))]
            canvas.rectangle(-size, size - r - 1, 2 * size, size - r, "#{:02x}{:02x}{:02x}".format(*shade))
            lighter = "#{:02x}{:02x}{:02x}".format(*((2 * part + 255) // 3 for part in shade))
            canvas.tile(r, r, lighter, inset=0.06, radius=0.2)  # the only way to the treasure
        for r in range(size if size <= 20 else 0):  # in more rows there is no room for letters
            for c in range(r + 1):
                text = str(to_the_right[r * size + c])
                canvas.text(canvas.tile_center(r, c), text, PAPER if r > 0.35 * size and c < r else INK, size=0.4)
        canvas.text((0.03 * size, -0.5), "in the cells: the action to the right", size=0.035 * size, anchor="lm")
        x, y = canvas.tile_center(size, size - 1)
        canvas.rectangle(x - 0.36, y - 0.25, x + 0.36, y + 0.3, ORANGE, radius=0.08)
        canvas.rectangle(x - 0.36, y, x + 0.36, y + 0.07, INK)
        canvas.circle((x, y + 0.03), 0.11, YELLOW)
        x, y = canvas.tile_center(row, column)
        canvas.circle((x, y), 0.36, YELLOW if state.found[index] else BLUE)
        canvas.circle((x, y), 0.24, PAPER)
        canvas.circle((x, y), 0.15, INK)
        return canvas.picture()
