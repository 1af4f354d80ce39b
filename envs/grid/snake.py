"""Snake: eat apples, grow, and do not run into a wall or yourself."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, PAPER, SKY, Canvas
from rltrain.compiling import is_compiling
from rltrain.env import TensorEnv
from rltrain.envs.grid.chance import choose


@dataclass
class SnakeState:
    """The snake and the apple. Squares are counted row by row from the top left."""

    body: Tensor  # (N, size^2) uint8, moves without growth after which the square is free again: 0 free, 1 the tail
    head: Tensor  # (N,) int64, its square, where body equals length
    length: Tensor  # (N,) int64, squares
    apple: Tensor  # (N,) int64, its square; where the last one was once the board is full


class Snake(TensorEnv[SnakeState]):
    """Snake on a square board: the more apples it has eaten, the longer it is in its own way.

    Observation: (N, size, size, 4) uint8, planes: body (255), how long the body will stay there (255 // size^2 for each
        move), head (255), apple (255).
    Action: 0 up, 1 right, 2 down, 3 left.
    Reward: ``apple_reward`` for an apple, ``death_reward`` for the move that kills.
    Episode end: the head runs into a wall or the body, or the snake fills the board. The tail moves on before the head
        arrives, so the square that it leaves is free.
    Source: the rules of Bonnet et al., "Jumanji: a Diverse Suite of Scalable Reinforcement Learning Environments in
        JAX", 2024 (``Snake-v1``), with a plane of body and its order for those of body, tail and order.
    Baseline: follow a Hamiltonian cycle, with shortcuts to the apple that never overtake the tail: fills the board.

    A snake starts with length 1 on a random square, and apples lie on random free ones. A dead snake stays as it was
    before its last move. ``info`` has the length; success is a full board.

    Args:
        size: Squares along a side, even.
        apple_reward: Reward for eating an apple.
        death_reward: Reward for running into a wall or the body.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is not an even number from 4 to 14, or a reward is not a number.
    """

    max_episode_steps = 4000
    render_fps = 15

    def __init__(self, *, size: int = 10, apple_reward: float = 1.0, death_reward: float = 0.0, **base: Any) -> None:
        super().__init__(**base)
        self.size = self.choice("size", size, range(4, 16, 2))  # uint8 counts the squares, and cycles need an even side
        self.cells = self.size**2
        self.apple_reward = self.constant("apple_reward", apple_reward)
        self.death_reward = self.constant("death_reward", death_reward)
        shape = (self.size, self.size, 4)
        self.observation_space = spaces.Box(0, 255, shape, dtype=np.uint8)
        self.action_space = spaces.Discrete(4)

        square = torch.arange(self.cells).view(shape[:2])
        padded = torch.nn.functional.pad(square, (1, 1, 1, 1), value=-1)
        beside = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])
        self._beside = torch.stack(beside, -1).flatten().to(self.device)  # (cells * 4,) the square next door, or -1
        self._turn = self._cycle().to(self.device)

        # An observation's four bytes of a square are handled as one int32.
        codes = torch.zeros(self.cells + 3, 4, dtype=torch.uint8)
        codes[1:-2, 0] = 255
        codes[:-2, 1] = torch.arange(self.cells + 1) * (255 // self.cells)
        codes[-2, 2] = codes[-1, 3] = 255
        packed = codes.view(torch.int32).flatten().to(self.device)
        self._body_codes, self._head_and_apple = packed[:-2], packed[-2:]

    def _cycle(self) -> Tensor:
        """(cells,) int64: the turn of every square on a Hamiltonian cycle.

        Down and up through the columns, from the second row on, and back along the first row.
        """
        square = torch.arange(self.cells).view(self.size, self.size)
        columns = square[1:].clone()
        columns[:, 1::2] = columns[:, 1::2].flip(0)
        path = torch.cat((columns.t().flatten(), square[0].flip(0)))
        return torch.empty_like(path).scatter_(0, path, torch.arange(self.cells))

    def reset(self, n: int, rng: torch.Generator | None) -> SnakeState:
        """A snake of length 1 and an apple, on two different squares."""
        head = torch.randint(self.cells, (n,), generator=rng, device=self.device)
        apart = torch.randint(1, self.cells, (n,), generator=rng, device=self.device)
        body = torch.zeros(n, self.cells, dtype=torch.uint8, device=self.device)
        return SnakeState(
            body=body.scatter_(1, head.unsqueeze(1), 1),
            head=head,
            length=torch.ones_like(head),
            apple=(head + apart) % self.cells,
        )

    def step(self, state: SnakeState, action: Tensor, rng: torch.Generator | None) -> tuple[SnakeState, Tensor, Tensor]:
        """The body ages by one move, unless the snake grows; the head goes on; an eaten apple is replaced."""
        ahead = self._beside.index_select(0, state.head * 4 + action)
        eats = ahead == state.apple
        there = state.body.gather(1, ahead.clamp(min=0).unsqueeze(1)).squeeze(1)
        dies = (ahead < 0) | (there > 1)  # 1 is the tail, which moves on
        head = torch.where(dies, state.head, ahead)
        length = state.length + eats
        ages = (~(eats | dies)).to(torch.uint8).unsqueeze(1)
        body = torch.maximum(state.body, ages) - ages
        body = body.scatter_(1, head.unsqueeze(1), length.to(torch.uint8).unsqueeze(1))

        won = length == self.cells
        chance = torch.rand(state.head.shape, generator=rng, device=self.device, dtype=self.dtype)
        # The latter takes a fraction of the time, but for Inductor, which writes wrong C++ for it.
        free = body == 0 if is_compiling() else (1 - body.clamp(max=1)).view(torch.bool)
        fresh = choose(free, chance)
        apple = torch.where(eats > won, fresh, state.apple)

        reward = self.apple_reward * eats + self.death_reward * dies
        return SnakeState(body, head, length, apple), reward, dies | won

    def observe(self, state: SnakeState) -> Tensor:
        """The four planes, (N, size, size, 4) uint8."""
        planes = self._body_codes.index_select(0, state.body.flatten().to(torch.int32)).view(state.body.shape)
        squares = torch.stack((state.head, state.apple), 1)
        planes.scatter_add_(1, squares, self._head_and_apple.expand(squares.shape))
        return planes.view(torch.uint8).view(-1, self.size, self.size, 4)

    def info(self, state: SnakeState) -> dict[str, Tensor]:
        """The snake's length, and whether it fills the board."""
        return {"length": state.length, "is_success": state.length == self.cells}

    def baseline(self, state: SnakeState) -> Tensor:
        """Of the squares next door, the one furthest along the cycle that is neither past the apple nor the tail."""

        def ahead_of_head(square: Tensor) -> Tensor:
            return (self._turn[square] - self._turn[state.head].unsqueeze(1)) % self.cells

        beside = self._beside.view(self.cells, 4).index_select(0, state.head)
        tail = (state.body == 1).to(torch.uint8).argmax(1, keepdim=True)
        to_tail = (ahead_of_head(tail) - 1) % self.cells  # a snake of length 1 has the whole cycle before it
        advance = ahead_of_head(beside.clamp(min=0))
        shortcut = (advance <= ahead_of_head(state.apple.unsqueeze(1))) & (advance <= to_tail)
        allowed = (beside >= 0) & (shortcut | (advance == 1))
        return advance.masked_fill(~allowed, -1).argmax(1)

    def render(self, state: SnakeState, index: int = 0) -> Tensor:
        """The board between its walls, (440, 440, 3) uint8; the snake gets thinner towards its tail."""
        size, body = self.size, state.body[index].tolist()
        canvas = Canvas(440, 440, world=(0, 0, size + 1, size + 1), background=INK)  # walls half a square thick
        centers = [canvas.tile_center(square // size + 0.5, square % size + 0.5) for square in range(self.cells)]
        for square in range(self.cells):
            color = "#e9ecf0" if (square // size + square) % 2 else PAPER
            canvas.tile(square // size + 0.5, square % size + 0.5, color)

        head, length = int(state.head[index]), int(state.length[index])
        if length < self.cells:
            x, y = centers[int(state.apple[index])]
            canvas.circle((x, y - 0.05), 0.34, GREEN)
            canvas.line([(x, y + 0.2), (x + 0.1, y + 0.4)], INK, width=0.07)
        trail = [centers[body.index(age)] for age in range(1, length + 1)]
        for age, piece in enumerate(pairwise(trail), 1):
            canvas.line(piece, SKY, width=0.35 + 0.35 * age / length)
        (x, y), (back_x, back_y) = centers[head], trail[-2] if length > 1 else (centers[head][0], centers[head][1] - 1)
        canvas.circle((x, y), 0.42, BLUE)
        dx, dy = x - back_x, y - back_y
        for side in (-0.19, 0.19):
            eye = (x + 0.14 * dx - side * dy, y + 0.14 * dy + side * dx)
            canvas.circle(eye, 0.11, PAPER)
            canvas.circle((eye[0] + 0.04 * dx, eye[1] + 0.04 * dy), 0.06, INK)
        return canvas.picture()
