"""Sokoban: push boxes onto targets, without getting them stuck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, ORANGE, PAPER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.grid.levels import SPLITS
from rltrain.envs.grid.sokoban_levels import TARGET, WALL, sokoban_levels


@dataclass
class SokobanState:
    """Where the player and the boxes are. Squares are counted row by row from the top left."""

    level: Tensor  # (N,) int64, index in the split
    player: Tensor  # (N,) int64, its square
    boxes: Tensor  # (N, num_boxes) int64, theirs


class Sokoban(TensorEnv[SokobanState]):
    """Sokoban on small generated levels: boxes can be pushed, one at a time, and never pulled.

    Observation: (N, size, size, 4) uint8, planes of 0 and 1: walls, targets, boxes, the player.
    Action: 0 up, 1 right, 2 down, 3 left; what a wall or a second box stops is a step in which nothing moves.
    Reward: minus ``step_cost`` for every step, ``box_reward`` for each box pushed onto a target and minus that for one
        pushed off, ``finish_reward`` when all boxes are on targets.
    Episode end: all boxes are on targets.
    Source: rewards of Schrader, "gym-sokoban", 2018; levels by playing backwards from the solution as in Racaniere et
        al., "Imagination-Augmented Agents for Deep Reinforcement Learning", 2017; splits as in Guez et
        al., "An Investigation of Model-Free Planning: Boxoban Levels", 2018.

    Every episode is one of the split's levels, each as likely. All can be solved, and none in fewer than
    ``min_pushes`` pushes. No level of one split is in another, turned or reflected ones included; see
    :mod:`rltrain.envs.grid.levels`. To measure generalisation, train on one split and evaluate on another::

        rltrain train ppo rltrain/Sokoban-v0 --env.kwargs.num-levels 200
        rltrain eval RUN
        rltrain eval RUN --env.kwargs.split test

    ``info`` has the level's index and the number of boxes on targets.

    Args:
        size: Squares along a side, the walls around included.
        num_boxes: Boxes, and targets.
        min_pushes: Least number of pushes of a level, by the distances from boxes to targets.
        split: Which levels: train, validation or test.
        num_levels: Levels of the split train; the other two have 500 each.
        level_seed: Seed of the levels, which are assigned to the splits by the same rule.
        step_cost: Cost of a step.
        box_reward: Reward for a box on a target.
        finish_reward: Reward for the last one.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is out of range, or there are too few such levels.
    """

    max_episode_steps = 120
    render_fps = 8

    def __init__(
        self,
        *,
        size: int = 9,
        num_boxes: int = 2,
        min_pushes: int = 5,
        split: str = "train",
        num_levels: int = 1000,
        level_seed: int = 0,
        step_cost: float = 0.1,
        box_reward: float = 1.0,
        finish_reward: float = 10.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.size = self.whole("size", size, at_least=6, at_most=20)
        self.num_boxes = self.whole("num_boxes", num_boxes, at_least=1, at_most=4)
        self.step_cost = self.constant("step_cost", step_cost)
        self.box_reward = self.constant("box_reward", box_reward)
        self.finish_reward = self.constant("finish_reward", finish_reward)
        self.observation_space = spaces.Box(0, 1, (self.size, self.size, 4), dtype=np.uint8)
        self.action_space = spaces.Discrete(4)

        levels = sokoban_levels(
            self.size,
            self.num_boxes,
            self.whole("min_pushes", min_pushes, at_least=1),
            self.choice("split", split, SPLITS),
            self.whole("num_levels", num_levels, at_least=1),
            self.whole("level_seed", level_seed, at_least=0),
        )
        board = levels["board"].to(self.device).flatten(1)
        self.num_levels, self.cells = board.shape
        none = torch.zeros_like(board)
        walls, targets = board & WALL > 0, board & TARGET > 0
        self._planes = torch.stack((walls, targets, none, none), -1).flatten(1).to(torch.uint8)
        self._walls, self._targets = walls.flatten(), targets.flatten()  # (L * cells,)
        self._player, self._boxes = levels["player"].to(self.device), levels["boxes"].to(self.device)
        self._offset = torch.tensor([-self.size, 1, self.size, -1], device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> SokobanState:
        """At the start of a random level."""
        level = torch.randint(self.num_levels, (n,), generator=rng, device=self.device)
        return SokobanState(level, self._player.index_select(0, level), self._boxes.index_select(0, level))

    def step(
        self, state: SokobanState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[SokobanState, Tensor, Tensor]:
        """One square on, pushing a box that is there, unless a wall or another box stands in the way."""
        offset = self._offset.index_select(0, action)
        ahead = state.player + offset
        beyond = (ahead + offset).clamp(0, self.cells - 1)  # off the board only where ahead is a wall
        base = state.level * self.cells
        walls = self._walls.index_select(0, torch.cat((base + ahead, base + beyond))).view(2, -1)
        meets = state.boxes == ahead.unsqueeze(1)
        jammed = walls[1] | (state.boxes == beyond.unsqueeze(1)).any(1)
        moves = ~(walls[0] | (meets.any(1) & jammed))

        after = SokobanState(
            level=state.level,
            player=torch.where(moves, ahead, state.player),
            boxes=torch.where(meets & moves.unsqueeze(1), beyond.unsqueeze(1), state.boxes),
        )
        home = self._home(after)
        solved = home == self.num_boxes
        reward = self.box_reward * (home - self._home(state)) + self.finish_reward * solved - self.step_cost
        return after, reward, solved

    def observe(self, state: SokobanState) -> Tensor:
        """The four planes, (N, size, size, 4) uint8."""
        planes = self._planes.index_select(0, state.level)
        planes.scatter_(1, torch.cat((4 * state.boxes + 2, 4 * state.player.unsqueeze(1) + 3), 1), 1)
        return planes.view(-1, self.size, self.size, 4)

    def info(self, state: SokobanState) -> dict[str, Tensor]:
        """The level's index, how many boxes are on targets, and whether all are."""
        home = self._home(state)
        return {"level": state.level, "boxes_on_target": home, "is_success": home == self.num_boxes}

    def _home(self, state: SokobanState) -> Tensor:
        """(N,) int64: boxes on targets."""
        squares = (state.level * self.cells).unsqueeze(1) + state.boxes
        return self._targets.index_select(0, squares.flatten()).view(squares.shape).sum(1)

    def render(self, state: SokobanState, index: int = 0) -> Tensor:
        """The level from above, about (440, 440, 3) uint8; a box turns green on a target."""
        size, level = self.size, int(state.level[index])
        pixels = size * (440 // size)
        canvas = Canvas(pixels, pixels, world=(0, 0, size, size), background="#dde1e7")
        planes = self._planes[level].view(-1, 4).tolist()
        for square, (wall, target, _, _) in enumerate(planes):
            row, column = divmod(square, size)
            if wall:
                canvas.tile(row, column, INK, inset=-0.01)
                canvas.tile(row, column, "#3b4252", inset=0.04, radius=0.08)
                continue
            canvas.tile(row, column, PAPER, inset=0.015)
            if target:
                canvas.circle(canvas.tile_center(row, column), 0.24, GREEN)
                canvas.circle(canvas.tile_center(row, column), 0.14, PAPER)
                canvas.circle(canvas.tile_center(row, column), 0.07, GREEN)
        for square in state.boxes[index].tolist():
            row, column = divmod(square, size)
            x, y = canvas.tile_center(row, column)
            color, edge = (GREEN, "#3a7a50") if planes[square][1] else (ORANGE, "#a9562a")
            canvas.tile(row, column, edge, inset=0.08, radius=0.08)
            canvas.tile(row, column, color, inset=0.16)
            for side in (-1, 1):
                canvas.line([(x - 0.3, y - 0.3 * side), (x + 0.3, y + 0.3 * side)], edge, width=0.08)
        x, y = canvas.tile_center(*divmod(int(state.player[index]), size))
        canvas.circle((x, y), 0.36, BLUE)
        for eye in (-0.13, 0.13):
            canvas.circle((x + eye, y + 0.06), 0.08, PAPER)
        return canvas.picture()
