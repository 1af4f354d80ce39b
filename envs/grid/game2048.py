"""2048: slide tiles together on a 4 x 4 board."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import INK, PAPER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.grid.chance import choose

# A row, or a column from top to bottom, has a code: a number of four bits for each square, the first one the highest.
BITS = torch.tensor([12, 8, 4, 0])
ROWS = 2**16
TILES = ("#dde1e7", "#e6edf3", "#c9dbea", "#81a4cd", "#2f6690", "#e9b44c", "#e8954a", "#e07a3f", "#c8463e", "#a8327a",
         "#6d3a94", "#4f9d69", "#2f7d5b", "#1f5f5b", "#2b303b", "#000000")  # fmt: skip


@dataclass
class Game2048State:
    """The board."""

    cells: Tensor  # (N, 16) uint8, k where the tile 2^k is, 0 where none is; row by row from the top left


class Game2048(TensorEnv[Game2048State]):
    """2048: all tiles slide as far as they can, equal ones merge in pairs, and a new one appears.

    Observation: (N, 16): k for a tile 2^k, 0 for an empty square, row by row; with the action mask beside it.
    Action: slide up (0), right (1), down (2), left (3). The mask allows what changes the board; any other action is a
        step in which nothing happens, and no tile appears.
    Reward: the values of the tiles that merging made, in points: the game's score.
    Episode end: nothing can move.
    Source: Cirulli, "2048", 2014 (the rules); Szubert and Jaskowski, "Temporal difference learning of N-tuple networks
        for the game 2048", 2014 (as a Markov decision process).
    Baseline: the move whose board has most room, neighbours most alike and large tiles near a corner; no look-ahead.

    Two tiles of 32768 do not merge: four bits hold no more. ``info`` has the largest tile; success is one of at least
    2^``goal``.

    Args:
        four_probability: Chance that a new tile is a 4 and not a 2.
        goal: k of the tile 2^k that counts as success; the game goes on after it.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``four_probability`` is not from 0 to 1, or ``goal`` not from 3 to 15.
    """

    max_episode_steps = 10_000
    render_fps = 8

    def __init__(self, *, four_probability: float = 0.1, goal: int = 11, **base: Any) -> None:
        super().__init__(**base)
        self.four_probability = self.constant("four_probability", four_probability, at_least=0, at_most=1)
        self.goal = self.whole("goal", goal, at_least=3, at_most=15)
        self.observation_space = spaces.MultiDiscrete([16] * 16, dtype=np.uint8)
        self.action_space = spaces.Discrete(4)

        slid, points, can = line_tables()
        self._slid, self._points = slid.to(self.device), points.to(self.device, self.dtype)
        self._can = can.to(self.device)
        # From the code of a line that an action moves to its entry: up, right, down, left.
        self._shift = torch.tensor([-ROWS, ROWS, 0, 0], device=self.device)

        # Codes of four rows and then, above ROWS, of four columns: one product, exact in floating point.
        square, weight = torch.arange(16), (1 << BITS).to(torch.float32)
        pack = torch.zeros(16, 8)
        pack[square, square // 4] = weight[square % 4]
        pack[square, 4 + square % 4] = weight[square // 4]
        self._pack = pack.to(self.device)
        self._base = (torch.arange(8) // 4 * ROWS).to(self.device, torch.float32)
        path = torch.tensor([[0, 1, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11], [15, 14, 13, 12]])
        self._weights = (0.5 ** (1 + path)).flatten().to(self.device, self.dtype)

    def reset(self, n: int, rng: torch.Generator | None) -> Game2048State:
        """Two tiles on different squares."""
        square = torch.randint(16, (n, 1), generator=rng, device=self.device)
        other = (square + torch.randint(1, 16, (n, 1), generator=rng, device=self.device)) % 16
        cells = torch.zeros(n, 16, dtype=torch.uint8, device=self.device)
        squares = torch.cat((square, other), 1)
        chance = torch.rand(n, 2, generator=rng, device=self.device, dtype=self.dtype)
        return Game2048State(cells.scatter_(1, squares, self._new_tile(chance)))

    def step(
        self, state: Game2048State, action: Tensor, rng: torch.Generator | None
    ) -> tuple[Game2048State, Tensor, Tensor]:
        """Slides, merges, and puts a new tile on one of the empty squares, each as likely."""
        moved, points = self._move(state.cells, self._codes(state.cells), action)
        changed = (moved != state.cells).any(1, keepdim=True)
        chance = torch.rand(len(moved), 2, generator=rng, device=self.device, dtype=self.dtype)
        square = choose(moved == 0, chance[:, 0]).clamp(max=15).unsqueeze(1)  # 16 only where nothing changes
        grown = moved.scatter(1, square, self._new_tile(chance[:, 1:]))
        after = Game2048State(torch.where(changed, grown, state.cells))
        return after, points, ~self.action_mask(after).any(1)

    def observe(self, state: Game2048State) -> Tensor:
        """The board, (N, 16) uint8."""
        return state.cells

    def action_mask(self, state: Game2048State) -> Tensor:
        """(N, 4) bool: the moves that change the board."""
        can = self._can.index_select(0, self._codes(state.cells).flatten()).view(-1, 8)
        return can.sum(1, dtype=torch.int32).view(torch.uint8).view(-1, 4) > 0  # bytes add up side by side

    def info(self, state: Game2048State) -> dict[str, Tensor]:
        """The largest tile, and whether it is large enough."""
        largest = state.cells.amax(1)
        return {
            "largest_tile": torch.ones_like(largest, dtype=torch.int64) << largest,
            "is_success": largest >= self.goal,
        }

    def baseline(self, state: Game2048State) -> Tensor:
        """The best, by :meth:`_judge`, of the boards that the four moves lead to before a new tile appears."""
        codes = self._codes(state.cells)
        values = []
        for action in range(4):
            moved, _ = self._move(state.cells, codes, torch.full_like(codes[:, 0], action))
            values.append(self._judge(moved))
        return torch.stack(values, 1).masked_fill(~self.action_mask(state), -torch.inf).argmax(1)

    def _judge(self, cells: Tensor) -> Tensor:
        """(N,) how promising boards are: room, neighbours alike, and large tiles along a path from the corner."""
        tiles = torch.ones_like(cells, dtype=self.dtype).ldexp(cells)
        k = cells.view(-1, 4, 4).to(self.dtype)
        rough = k.diff(dim=1).abs().sum((1, 2)) + k.diff(dim=2).abs().sum((1, 2))
        return tiles @ self._weights + 5 * (cells == 0).sum(1) - rough

    def _codes(self, cells: Tensor) -> Tensor:
        """(N, 8) int64: the codes of the rows, and those of the columns plus ROWS."""
        return torch.addmm(self._base, cells.to(torch.float32), self._pack).to(torch.int64)

    def _move(self, cells: Tensor, codes: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """The boards (N, 16) after sliding, and the points (N,) for it."""
        vertical = (action % 2 == 0).unsqueeze(1)
        lines = torch.where(vertical, codes[:, 4:], codes[:, :4]) + self._shift.index_select(0, action).unsqueeze(1)
        slid = self._slid.index_select(0, lines.flatten()).view(-1, 4, 4)
        moved = torch.where(vertical.unsqueeze(2), slid.transpose(1, 2), slid).flatten(1)
        return moved, self._points.index_select(0, lines.flatten()).view(-1, 4).sum(1)

    def _new_tile(self, chance: Tensor) -> Tensor:
        """1 for a tile 2, or 2 for a tile 4, where ``chance`` is uniform in [0, 1)."""
        return 1 + (chance < self.four_probability).to(torch.uint8)

    def render(self, state: Game2048State, index: int = 0) -> Tensor:
        """The board, (400, 400, 3) uint8."""
        canvas = Canvas(400, 400, world=(0, 0, 4.2, 4.2), background="#a3abb8")
        for square, k in enumerate(state.cells[index].tolist()):
            row, column = square // 4 + 0.1, square % 4 + 0.1
            canvas.tile(row, column, TILES[k], inset=0.05, radius=0.08)
            if k:
                text = str(2**k)
                size = 0.46 if len(text) < 3 else 1.3 / len(text)
                canvas.text(canvas.tile_center(row, column), text, INK if k < 3 else PAPER, size=size)
        return canvas.picture()


@lru_cache(maxsize=1)
def line_tables() -> tuple[Tensor, Tensor, Tensor]:
    """The results of a move for every line, by its code; 2 ROWS entries each.

    Returns:
        The line (2 ROWS, 4) uint8 after sliding to its front, and above ROWS to its back; the points (2 ROWS,) for it,
        the same either way; and which actions change it, a byte for each in one int32 (2 ROWS,): if it is a row, and
        above ROWS if it is a column.
    """
    lines = (torch.arange(ROWS).unsqueeze(1) >> BITS) & 15
    to_front, points = slide(lines)
    to_back = slide(lines.flip(1))[0].flip(1)
    front, back = (to_front != lines).any(1), (to_back != lines).any(1)
    none = torch.zeros_like(front)
    can = torch.cat((torch.stack((none, back, none, front), 1), torch.stack((front, none, back, none), 1)))
    slid = torch.cat((to_front, to_back)).to(torch.uint8)
    return slid, points.repeat(2), can.to(torch.uint8).view(torch.int32).flatten()


def slide(lines: Tensor) -> tuple[Tensor, Tensor]:
    """Slides lines (M, 4) of tiles to their front.

    Returns:
        The lines (M, 4) after it, and the points (M,) int64 of what merged.
    """
    lines, points = _close_up(lines), torch.zeros_like(lines[:, 0])
    for k in range(3):  # the pair nearest to the front merges first, and what merged does not merge again
        front, back = lines[:, k], lines[:, k + 1]
        merges = (front == back) & (front > 0) & (front < 15)
        points = points + merges * (2 << front)
        lines = lines.clone()
        lines[:, k], lines[:, k + 1] = front + merges, back * ~merges
    return _close_up(lines), points


def _close_up(lines: Tensor) -> Tensor:
    """Moves empty squares behind the tiles, which keep their order."""
    return lines.gather(1, (lines == 0).to(torch.uint8).sort(dim=1, stable=True).indices)
