"""MinAtar's Freeway: cross eight lanes of traffic again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rltrain.canvas import RED, SKY
from rltrain.envs.minatar.game import DOWN, NOOP, SIZE, UP, Look, MinAtarGame
from rltrain.envs.minatar.lanes import LANES, Lanes

COLUMN = 4  # of the chicken
START = SIZE - 1  # the chicken's row
SLOWEST = 5  # frames, the longest pause of a car


@dataclass
class FreewayState:
    """The chicken and the cars. Row 0 is at the top, lane i in row i + 1."""

    y: Tensor  # (N,) int64, the chicken's row
    move_timer: Tensor  # (N,) int64, frames until the chicken can move
    x: Tensor  # (N, 8) int8, the cars' columns
    pause: Tensor  # (N, 8) int8, frames a car rests between two moves, 1 to 5; negative if it drives to the left
    timer: Tensor  # (N, 8) int8, frames until it moves
    last_action: Tensor  # (N,) int64, the code of the last action played


class FreewayChance(NamedTuple):
    """The random numbers of one frame."""

    repeat: Tensor  # (N,) bool, the last action sticks
    pause: Tensor  # (N, 8) int8, that of the cars once the chicken has crossed


class Freeway(MinAtarGame[FreewayState, FreewayChance]):
    """MinAtar's Freeway, frame for frame.

    Observation: (10, 10, 7) bool by row and column: chicken, car, and on the cell behind a car one of speed1 (a car
        that rests 1 frame between two moves) to speed5 (5 frames).
    Action: 0 stays, 1 goes up, 2 down, one cell; with all six of MinAtar's (no-op, left, up, right, down, fire) those
        that move nothing stay.
    Reward: 1 whenever the chicken gets across.
    Episode end: none but the time limit: 2,501 frames, as many as a game has in the authors' package.
    Source: Young and Tian, "MinAtar", 2019, arXiv:1903.03176; ``minatar`` 1.0.15, see ``envs/minatar/game.py``.

    The chicken starts at the bottom and goes back there when it is hit, or has reached the top: then all cars change
    their speeds and directions. Cars that leave on one side come back on the other.

    Args:
        move_interval: Frames from one move of the chicken to the next that is possible.
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Whether there are three actions, or all six of MinAtar's.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], ``move_interval`` not a whole number of at least 1, or
            ``minimal_actions`` neither true nor false.
    """

    max_episode_steps = 2_501

    channels: ClassVar[dict[str, Look]] = {
        "chicken": Look(SKY, 0.08, 0.42),
        "car": Look(RED, 0.08, 0.16),
        "speed1": Look("#ffd966", 0.2, 0.12, "every 2 frames"),
        "speed2": Look("#e0b64f", 0.24, 0.12, "every 3 frames"),
        "speed3": Look("#bd9648", 0.28, 0.12, "every 4 frames"),
        "speed4": Look("#957a48", 0.32, 0.12, "every 5 frames"),
        "speed5": Look("#756750", 0.36, 0.12, "every 6 frames"),
    }
    moves = (NOOP, UP, DOWN)

    def __init__(
        self, *, move_interval: int = 3, sticky_action_prob: float = 0.1, minimal_actions: bool = True, **base: Any
    ) -> None:
        super().__init__(sticky_action_prob=sticky_action_prob, minimal_actions=minimal_actions, **base)
        self.move_interval = self.whole("move_interval", move_interval, at_least=1)
        kinds = {pause: ("car", f"speed{pause}") for pause in range(1, SLOWEST + 1)}
        self._lanes = Lanes(list(self.channels), kinds, player=[COLUMN], wraps=True, device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> FreewayState:
        """The chicken at the bottom, the cars at the left."""
        pause = self._draw_pauses(n, rng)
        return FreewayState(
            y=self.full(n, START),
            move_timer=self.full(n, self.move_interval),
            x=torch.zeros_like(pause),
            pause=pause,
            timer=pause.abs(),
            last_action=self.full(n, NOOP),
        )

    def draw(self, n: int, rng: torch.Generator | None) -> FreewayChance:
        """Whether the last action sticks, and other cars."""
        return FreewayChance(self.draw_repeat(n, rng), self._draw_pauses(n, rng))

    def _draw_pauses(self, n: int, rng: torch.Generator | None) -> Tensor:
        """-5 to -1 and 1 to 5, all alike: (n, 8) int8."""
        draw = torch.randint(-SLOWEST, SLOWEST, (n, LANES), generator=rng, dtype=torch.int8, device=self.device)
        return draw + (draw >= 0)

    def advance(
        self, state: FreewayState, action: Tensor, chance: FreewayChance
    ) -> tuple[FreewayState, Tensor, Tensor]:
        """The chicken moves, then the cars."""
        action = self.stick(state.last_action, action, chance.repeat)
        step = self.row_step(action).masked_fill(state.move_timer != 0, 0)
        y = (state.y + step).clamp(max=START)
        move_timer = state.move_timer.masked_fill(step != 0, self.move_interval)

        crossed = y == 0
        y = y.masked_fill(crossed, START)
        pause = torch.where(crossed.unsqueeze(1), chance.pause, state.pause)
        timer = torch.where(crossed.unsqueeze(1), chance.pause.abs(), state.timer)

        moves = timer == 0
        ahead = state.x + pause.sign() * moves
        x = ahead + SIZE * ((ahead < 0).to(torch.int8) - (ahead == SIZE).to(torch.int8))
        timer = timer - 1 + moves * (pause.abs() + 1)

        in_the_way = (state.x == COLUMN) | (x == COLUMN)
        hit = in_the_way.gather(1, (y - 1).clamp(max=LANES - 1).unsqueeze(1)).squeeze(1) & (y < START)
        after = FreewayState(
            y=y.masked_fill(hit, START),
            move_timer=(move_timer - 1).clamp(min=0),
            x=x,
            pause=pause,
            timer=timer,
            last_action=action,
        )
        return after, crossed.to(self.dtype), torch.zeros_like(crossed)

    def observe(self, state: FreewayState) -> Tensor:
        """(N, 10, 10, 7) bool."""
        return self.board(self._lanes.light(state.pause, state.x, state.y, torch.zeros_like(state.y)))
