"""MinAtar's SpaceInvaders: shoot down aliens that march back and forth, and ever closer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rltrain.canvas import GREEN, ORANGE, RED, SKY, YELLOW
from rltrain.envs.minatar.game import FIRE, LEFT, NOOP, RIGHT, SIZE, Look, MinAtarGame, words

WAVE = 0b0011111100  # a row of aliens as it appears: columns 2 to 7
WAVE_ROWS, WAVE_SIZE = 4, 24
ROWS = 1 << SIZE  # that many different rows of bits


@dataclass
class SpaceInvadersState:
    """Cannon, aliens and bullets. Row 0 is at the top; bit k of a row is set where there is something in column k."""

    cannon: Tensor  # (N,) int64, the cannon's column, in row 9
    aliens: Tensor  # (N, 10) int32, by row: torch.compile does not vectorize shorter ones
    bullets: Tensor  # (N, 10) int32, those of the cannon, on their way up
    enemy_bullets: Tensor  # (N, 10) int32, those of the aliens, on their way down
    rightward: Tensor  # (N,) bool, the aliens march to the right
    alive: Tensor  # (N,) int64, aliens
    reload_timer: Tensor  # (N,) int64, frames until the cannon can fire
    move_timer: Tensor  # (N,) int64, frames until the aliens move
    shot_timer: Tensor  # (N,) int64, frames until an alien fires
    move_interval: Tensor  # (N,) int64, the most frames from one move of the aliens to the next
    last_action: Tensor  # (N,) int64, the code of the last action played


class SpaceInvadersChance(NamedTuple):
    """The random numbers of one frame."""

    repeat: Tensor  # (N,) bool, the last action sticks


class SpaceInvaders(MinAtarGame[SpaceInvadersState, SpaceInvadersChance]):
    """MinAtar's SpaceInvaders, frame for frame.

    Observation: (10, 10, 6) bool by row and column: cannon, alien, alien_left and alien_right (the aliens again, by the
        way they march), friendly_bullet, enemy_bullet.
    Action: 0 stays, 1 goes left, 2 right, one cell, 3 fires; with all six of MinAtar's (no-op, left, up, right, down,
        fire) up and down stay.
    Reward: 1 for every alien.
    Episode end: an alien or its bullet meets the cannon, or the aliens have to descend from the lowest row.
    Source: Young and Tian, "MinAtar", 2019, arXiv:1903.03176; ``minatar`` 1.0.15, see ``envs/minatar/game.py``.

    At the edge of the board the aliens turn and descend. Fewer of them march faster: as many frames go by from one move
    to the next as there are aliens, at most ``move_interval``, one less after every wave down to half of it. It is the
    lowest alien in the column nearest to the cannon that fires.

    Args:
        difficulty_ramping: Whether the aliens of later waves march faster.
        move_interval: The most frames from one move of the first wave to the next.
        shot_interval: Frames from one shot of the aliens to the next.
        reload_interval: Frames from one shot of the cannon to the next.
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Whether there are four actions, or all six of MinAtar's.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], an interval not a whole number of at least 1, or one
            of the others neither true nor false.
    """

    channels: ClassVar[dict[str, Look]] = {
        "cannon": Look(SKY, 0.06),
        "alien": Look(GREEN, 0.08, 0.25),
        "alien_left": Look(ORANGE, 0.3, 0.1, "marching left"),
        "alien_right": Look(YELLOW, 0.3, 0.1, "marching right"),
        "friendly_bullet": Look("#ffffff", 0.32, 0.18, "own bullet"),
        "enemy_bullet": Look(RED, 0.32, 0.18, "enemy bullet"),
    }
    moves = (NOOP, LEFT, RIGHT, FIRE)

    def __init__(
        self,
        *,
        difficulty_ramping: bool = True,
        move_interval: int = 12,
        shot_interval: int = 10,
        reload_interval: int = 5,
        sticky_action_prob: float = 0.1,
        minimal_actions: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(sticky_action_prob=sticky_action_prob, minimal_actions=minimal_actions, **base)
        self.move_interval = self.whole("move_interval", move_interval, at_least=1)
        self.shot_interval = self.whole("shot_interval", shot_interval, at_least=1)
        self.reload_interval = self.whole("reload_interval", reload_interval, at_least=1)
        ramping = self.choice("difficulty_ramping", difficulty_ramping, (True, False))
        self.least_move_interval = (move_interval + 1) // 2 if ramping else move_interval

        bits = (torch.arange(ROWS).unsqueeze(1) >> torch.arange(SIZE)) & 1  # (1024, 10)
        distance = (torch.arange(SIZE).unsqueeze(1) - torch.arange(SIZE)).abs() * SIZE + torch.arange(SIZE)
        nearest = (distance.unsqueeze(1) + SIZE**3 * (1 - bits)).argmin(2)  # the left one of two
        self._nearest = nearest.flatten().to(self.device)  # (10 * 1024,) column, by the cannon's and the columns in use
        self._count = bits.sum(1).to(torch.int8).to(self.device)  # (1024,)
        self._bit = (1 << torch.arange(SIZE)).to(torch.int32).to(self.device)
        self._row = torch.arange(SIZE, device=self.device)
        wave = [WAVE] * WAVE_ROWS + [0] * (SIZE - WAVE_ROWS)
        self._wave = torch.tensor(wave, dtype=torch.int32, device=self.device)

        def draw_rows(*channels: str) -> Tensor:
            rows = torch.zeros(ROWS, SIZE, len(self.channels), dtype=torch.bool)
            for channel in channels:
                rows[:, :, list(self.channels).index(channel)] = bits.bool()
            return words(rows.view(ROWS, -1))

        marching = (draw_rows("alien", "alien_left"), draw_rows("alien", "alien_right"))
        self._alien_rows = torch.cat(marching).to(self.device)  # (2 * 1024, 15)
        cannons = draw_rows("cannon")[1 << torch.arange(SIZE)]
        self._bullet_rows = torch.cat((draw_rows("friendly_bullet"), cannons)).to(self.device)
        self._enemy_bullet_rows = draw_rows("enemy_bullet").to(self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> SpaceInvadersState:
        """A whole wave on its way to the left, and no bullets."""
        empty = torch.zeros(n, SIZE, dtype=torch.int32, device=self.device)
        return SpaceInvadersState(
            cannon=self.full(n, 5),
            aliens=self._wave.expand(n, SIZE),
            bullets=empty,
            enemy_bullets=empty,
            rightward=torch.zeros(n, dtype=torch.bool, device=self.device),
            alive=self.full(n, WAVE_SIZE),
            reload_timer=self.full(n, 0),
            move_timer=self.full(n, self.move_interval),
            shot_timer=self.full(n, self.shot_interval),
            move_interval=self.full(n, self.move_interval),
            last_action=self.full(n, NOOP),
        )

    def draw(self, n: int, rng: torch.Generator | None) -> SpaceInvadersChance:
        """Whether the last action sticks."""
        return SpaceInvadersChance(self.draw_repeat(n, rng))

    def advance(
        self, state: SpaceInvadersState, action: Tensor, chance: SpaceInvadersChance
    ) -> tuple[SpaceInvadersState, Tensor, Tensor]:
        """The cannon moves or fires, bullets fly, the aliens move and fire, and those that are hit vanish."""
        action = self.stick(state.last_action, action, chance.repeat)
        cannon = (state.cannon + self.column_step(action)).clamp(0, SIZE - 1)
        here = self._bit.index_select(0, cannon)

        fires = (action == FIRE) & (state.reload_timer == 0)
        bullets = state.bullets.roll(-1, 1)
        bullets[:, -2] |= here * fires  # it has flown one cell; row 9 was empty
        bullets[:, -1] = 0
        enemy_bullets = state.enemy_bullets.roll(1, 1)
        enemy_bullets[:, 0] = 0

        moves = state.move_timer == 0
        aliens, rightward, landed = self._march(state.aliens, state.rightward, moves)
        threats = enemy_bullets[:, -1] | state.aliens[:, -1] | aliens[:, -1]
        terminated = landed | ((threats & here) != 0)

        shoots = state.shot_timer == 0
        column = self._nearest.index_select(0, cannon * ROWS + self._columns_in_use(aliens))
        muzzle = self._bit.index_select(0, column)
        row = ((aliens & muzzle.unsqueeze(1)).bool() * self._row).amax(1)
        enemy_bullets.scatter_(
            1, row.unsqueeze(1), enemy_bullets.gather(1, row.unsqueeze(1)) | (muzzle * shoots).unsqueeze(1)
        )

        killed = aliens & bullets
        count = self._count.index_select(0, killed.view(-1)).view(-1, SIZE).sum(1)
        alive = state.alive - count
        cleared = alive == 0
        faster = cleared & (state.move_interval > self.least_move_interval)
        after = SpaceInvadersState(
            cannon=cannon,
            aliens=torch.where(cleared.unsqueeze(1), self._wave, aliens ^ killed),
            bullets=bullets ^ killed,
            enemy_bullets=enemy_bullets,
            rightward=rightward,
            alive=alive.masked_fill(cleared, WAVE_SIZE),
            reload_timer=(state.reload_timer.masked_fill(fires, self.reload_interval) - 1).clamp(min=0),
            move_timer=torch.where(moves, torch.minimum(state.alive, state.move_interval), state.move_timer) - 1,
            shot_timer=state.shot_timer.masked_fill(shoots, self.shot_interval) - 1,
            move_interval=state.move_interval - faster.long(),
            last_action=action,
        )
        return after, count.to(self.dtype), terminated

    def _march(self, aliens: Tensor, rightward: Tensor, moves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Aliens (N, 10) and their way (N,) after a move where ``moves``; where they would leave the board below."""
        used = self._columns_in_use(aliens)
        turns = moves & torch.where(rightward, used >> (SIZE - 1), used & 1).bool()
        aside = torch.where(rightward.unsqueeze(1), aliens << 1, aliens >> 1)
        moved = torch.where(turns.unsqueeze(1), aliens.roll(1, 1), aside)
        return torch.where(moves.unsqueeze(1), moved, aliens), rightward ^ turns, turns & aliens[:, -1].bool()

    @staticmethod
    def _columns_in_use(aliens: Tensor) -> Tensor:
        """The bits of all rows (N, 10) together: (N,) int32."""
        return reduce(torch.bitwise_or, (aliens[:, :5] | aliens[:, 5:]).unbind(1))

    def observe(self, state: SpaceInvadersState) -> Tensor:
        """(N, 10, 10, 6) bool."""
        aliens = state.aliens + ROWS * state.rightward.unsqueeze(1)
        cannon = (ROWS + state.cannon.int()).unsqueeze(1)  # in the row that the cannon's bullets have always left
        board = self._alien_rows.index_select(0, aliens.view(-1))
        board |= self._bullet_rows.index_select(0, torch.cat((state.bullets[:, :-1], cannon), 1).view(-1))
        board |= self._enemy_bullet_rows.index_select(0, state.enemy_bullets.view(-1))
        return self.board(board)
