"""CliffWalking: walk along a cliff without falling off it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import GREY, RED, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.toy.figures import draw_flag, draw_person
from rltrain.envs.toy.tables import Outcome, Tables, walk, with_slips

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
GRASS, MEADOW, ROCK, ABYSS = "#eef1e6", "#d5ead9", "#8d7b6c", "#4a3f3a"


@dataclass
class CliffWalkingState:
    """Where the walker is."""

    cell: Tensor  # (N,) int64, counted row by row from the top left


class CliffWalking(TensorEnv[CliffWalkingState]):
    """Gymnasium's CliffWalking-v1 and CliffWalkingSlippery-v1, with the same transition probabilities.

    Observation: (N,): the walker's cell, counted row by row from the top left.
    Action: 0 up, 1 right, 2 down, 3 left; a step off the board leads nowhere.
    Reward: ``step_reward`` (-1) for a step, ``cliff_reward`` (-100) for one off the cliff, which leads to the start.
    Episode end: at the goal, at the bottom right.
    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2018, example 6.6; Gymnasium 1.4,
        ``envs/toy_text/cliffwalking.py``.
    Baseline: the optimal policy, by value iteration with discount 0.999.

    Gymnasium sets no time limit. Here 500 steps are one, so that a policy that walks in circles comes to an end too.

    Args:
        n_rows: Rows of the board; the cliff is the lowest, but for its first and last cell.
        n_columns: Columns of the board.
        is_slippery: Whether the ground is slippery.
        success_rate: Probability of moving in the chosen direction on slippery ground; otherwise the move is at a right
            angle to it, to either side with equal probability.
        step_reward: Reward of a step.
        cliff_reward: Reward of a step off the cliff.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range: fewer than 2 rows or 3 columns, or a probability outside [0, 1].
    """

    max_episode_steps = 500
    render_fps = 4

    def __init__(
        self,
        *,
        n_rows: int = 4,
        n_columns: int = 12,
        is_slippery: bool = False,
        success_rate: float = 1 / 3,
        step_reward: float = -1.0,
        cliff_reward: float = -100.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.n_rows = self.whole("n_rows", n_rows, at_least=2)
        self.n_columns = self.whole("n_columns", n_columns, at_least=3)
        self.is_slippery = self.choice("is_slippery", is_slippery, (True, False))
        self.success_rate = self.constant("success_rate", success_rate, at_least=0, at_most=1)
        self.constant("step_reward", step_reward)
        self.constant("cliff_reward", cliff_reward)
        self.rewards = (step_reward, cliff_reward)
        cells = n_rows * n_columns
        self.start, self.goal = cells - n_columns, cells - 1
        self.tables = Tables(
            self._outcomes,
            cells,
            len(MOVES),
            [self.start],
            success_rate=self.success_rate if is_slippery else None,
            device=self.device,
            dtype=self.dtype,
        )
        self.observation_space = spaces.Discrete(cells)
        self.action_space = spaces.Discrete(len(MOVES))

    def _outcomes(self, cell: int, action: int) -> list[Outcome]:
        outcomes = []
        for direction in with_slips(action, self.is_slippery):
            reached = walk(cell, MOVES[direction], self.n_rows, self.n_columns)
            falls = self.start < reached < self.goal
            outcomes.append((self.start if falls else reached, self.rewards[falls], reached == self.goal))
        return outcomes

    def reset(self, n: int, rng: torch.Generator | None) -> CliffWalkingState:
        """At the bottom left."""
        return CliffWalkingState(self.tables.start(n, rng))

    def step(
        self, state: CliffWalkingState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CliffWalkingState, Tensor, Tensor]:
        """One step on the board."""
        cell, reward, terminated = self.tables.follow(state.cell, action, rng)
        return CliffWalkingState(cell), reward, terminated

    def observe(self, state: CliffWalkingState) -> Tensor:
        """The cell (N,)."""
        return state.cell

    def info(self, state: CliffWalkingState) -> dict[str, Tensor]:
        """Success is to be at the goal."""
        return {"is_success": state.cell == self.goal}

    def baseline(self, state: CliffWalkingState) -> Tensor:
        """The best action (N,)."""
        return self.tables.best_actions[state.cell]

    def render(self, state: CliffWalkingState, index: int = 0) -> Tensor:
        """The board from above, (50 * rows, 50 * columns, 3) uint8."""
        rows, columns = self.n_rows, self.n_columns
        canvas = Canvas(50 * columns, 50 * rows, world=(0, 0, columns, rows), background="#dfe4d2")
        for cell in range(self.goal + 1):
            row, column = divmod(cell, columns)
            canvas.tile(row, column, MEADOW if cell == self.goal else GRASS, inset=0.02, radius=0.06)
        canvas.rectangle(1, 0, columns - 1, 1, ABYSS)
        edge = [
            (1.0, 1.0),
            *((1 + i / 3, 0.8 - 0.12 * (i * 7 % 3)) for i in range(3 * columns - 5)),
            (columns - 1.0, 1.0),
        ]
        canvas.polygon(edge, ROCK)
        canvas.line([(1, 1), (columns - 1, 1)], RED, width=0.05)
        start_x, start_y = canvas.tile_center(*divmod(self.start, columns))
        canvas.text((start_x, start_y), "S", GREY, size=0.5)
        goal_x, goal_y = canvas.tile_center(*divmod(self.goal, columns))
        draw_flag(canvas, goal_x - 0.18, goal_y - 0.3)
        row, column = divmod(int(state.cell[index]), columns)
        x, y = canvas.tile_center(row, column)
        draw_person(canvas, x + (0.15 if (row, column) == (rows - 1, columns - 1) else 0), y)
        return canvas.picture()
