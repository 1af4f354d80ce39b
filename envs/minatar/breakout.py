"""MinAtar's Breakout: bounce a ball off a paddle to clear a wall of bricks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rltrain.canvas import ORANGE, SKY
from rltrain.envs.minatar.game import LEFT, NOOP, RIGHT, SIZE, Look, MinAtarGame

PADDLE_ROW = (SIZE - 1) * SIZE
THINGS, BRICK = (1, 1 << 8, 1 << 16), 24  # paddle, ball and trail, and the bit of a brick, in the word of a cell
FULL = (1 << 30) - 1  # all bricks of rows 1, 2 and 3, one bit each, row by row


@dataclass
class BreakoutState:
    """Ball, paddle and wall. Row 0 is at the top."""

    x: Tensor  # (N,) int64, the ball's column
    y: Tensor  # (N,) int64, the ball's row
    dx: Tensor  # (N,) int64, 1 if the ball flies to the right, else -1
    dy: Tensor  # (N,) int64, 1 if the ball flies down, else -1
    last_x: Tensor  # (N,) int64, where the ball was one frame ago
    last_y: Tensor  # (N,) int64
    paddle: Tensor  # (N,) int64, the paddle's column, in row 9
    bricks: Tensor  # (N,) int32, bit 10 (row - 1) + column is set where there is a brick
    struck: Tensor  # (N,) bool, the ball met a brick in the last frame: it flies through the next
    last_action: Tensor  # (N,) int64, the code of the last action played


class BreakoutChance(NamedTuple):
    """The random numbers of one frame."""

    repeat: Tensor  # (N,) bool, the last action sticks


class Breakout(MinAtarGame[BreakoutState, BreakoutChance]):
    """MinAtar's Breakout, frame for frame.

    Observation: (10, 10, 4) bool by row and column: paddle, ball, trail (where the ball was one frame ago), brick.
    Action: 0 stays, 1 goes left, 2 right, one cell; with all six of MinAtar's (no-op, left, up, right, down, fire)
        those that move nothing stay.
    Reward: 1 for every brick.
    Episode end: the ball falls past the paddle.
    Source: Young and Tian, "MinAtar", 2019, arXiv:1903.03176; ``minatar`` 1.0.15, see ``envs/minatar/game.py``.

    The ball flies along diagonals. It comes back the way it came off the edge of the paddle, and is reflected by the
    walls, the bricks and the paddle's face. A new wall is there when the ball comes down to the paddle after the last
    brick.

    Args:
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Whether there are three actions, or all six of MinAtar's.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], or ``minimal_actions`` neither true nor false.
    """

    channels: ClassVar[dict[str, Look]] = {
        "paddle": Look(SKY, 0.06),
        "ball": Look("#ffffff", 0.14, 0.36),
        "trail": Look("#7d8698", 0.3, 0.2),
        "brick": Look(ORANGE),
    }
    moves = (NOOP, LEFT, RIGHT)

    def __init__(self, *, sticky_action_prob: float = 0.1, minimal_actions: bool = True, **base: Any) -> None:
        super().__init__(sticky_action_prob=sticky_action_prob, minimal_actions=minimal_actions, **base)
        self._shifts = torch.arange(30, dtype=torch.int32, device=self.device)
        self._things = torch.tensor(THINGS, dtype=torch.int32, device=self.device)
        none = torch.zeros(3 * SIZE, dtype=torch.int32, device=self.device)
        self._bit_at = torch.cat((none[:SIZE], 1 << self._shifts, none, none))  # (100,) by 10 row + column

    def reset(self, n: int, rng: torch.Generator | None) -> BreakoutState:
        """The ball in row 3 at the left or the right wall, on its way down and in."""
        right = torch.randint(2, (n,), generator=rng, device=self.device)
        x, y = right * (SIZE - 1), self.full(n, 3)
        return BreakoutState(
            x=x,
            y=y,
            dx=1 - 2 * right,
            dy=self.full(n, 1),
            last_x=x,
            last_y=y,
            paddle=self.full(n, 4),
            bricks=torch.full((n,), FULL, dtype=torch.int32, device=self.device),
            struck=torch.zeros(n, dtype=torch.bool, device=self.device),
            last_action=self.full(n, NOOP),
        )

    def draw(self, n: int, rng: torch.Generator | None) -> BreakoutChance:
        """Whether the last action sticks."""
        return BreakoutChance(self.draw_repeat(n, rng))

    def advance(
        self, state: BreakoutState, action: Tensor, chance: BreakoutChance
    ) -> tuple[BreakoutState, Tensor, Tensor]:
        """The paddle moves, then the ball."""
        action = self.stick(state.last_action, action, chance.repeat)
        paddle = (state.paddle + self.column_step(action)).clamp(0, SIZE - 1)

        ahead, below = state.x + state.dx, state.y + state.dy
        x, y = ahead.clamp(0, SIZE - 1), below.clamp(0, SIZE - 1)
        at_side, at_top, at_bottom = x != ahead, below < 0, y == SIZE - 1

        brick = state.bricks & self._bit_at.index_select(0, y * SIZE + x)
        struck = brick != 0
        breaks = struck > state.struck  # struck now, but not just before
        renewed = at_bottom & (state.bricks == 0)
        bricks = torch.where(breaks, state.bricks ^ brick, state.bricks.masked_fill(renewed, FULL))

        face = at_bottom & (state.x == paddle)  # the paddle was below the ball
        edge = (at_bottom & (x == paddle)) > face  # the ball would fly into it
        held = breaks | face | edge
        after = BreakoutState(
            x=x,
            y=torch.where(held, state.y, y),
            dx=torch.where(at_side ^ edge, -state.dx, state.dx),
            dy=torch.where(at_top | held, -state.dy, state.dy),
            last_x=state.x,
            last_y=state.y,
            paddle=paddle,
            bricks=bricks,
            struck=struck,
            last_action=action,
        )
        return after, breaks.to(self.dtype), at_bottom > held

    def observe(self, state: BreakoutState) -> Tensor:
        """(N, 10, 10, 4) bool."""
        wall = (state.bricks.unsqueeze(1) >> self._shifts & 1) << BRICK  # (N, 30), a cell in a word
        things = torch.zeros(len(wall), SIZE * SIZE, dtype=torch.int32, device=self.device)
        things[:, SIZE : 4 * SIZE] = wall
        cells = (PADDLE_ROW + state.paddle, SIZE * state.y + state.x, SIZE * state.last_y + state.last_x)
        return self.board(things.scatter_add_(1, torch.stack(cells, 1), self._things.expand(len(wall), 3)))
