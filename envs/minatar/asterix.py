"""MinAtar's Asterix: gather treasure and dodge enemies that cross the board ever faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rltrain.canvas import RED, SKY, YELLOW
from rltrain.envs.minatar.game import DOWN, LEFT, NOOP, RIGHT, SIZE, UP, Look, MinAtarGame
from rltrain.envs.minatar.lanes import LANES, Lanes

ENEMY, TREASURE = 1, 2


@dataclass
class AsterixState:
    """The player, the objects that cross the board, and their speed. Row 0 is at the top, lane i in row i + 1."""

    player_x: Tensor  # (N,) int64, column
    player_y: Tensor  # (N,) int64, row, 1 to 8
    kind: Tensor  # (N, 8) int8, what is in a lane: 0 nothing, 1 enemy, 2 treasure; negative if it goes to the left
    x: Tensor  # (N, 8) int8, its column; 0 in an empty lane
    spawn_timer: Tensor  # (N,) int64, frames until something new appears
    move_timer: Tensor  # (N,) int64, frames until everything moves
    ramp_timer: Tensor  # (N,) int64, frames until it gets harder
    level: Tensor  # (N,) int64, how often it got harder
    last_action: Tensor  # (N,) int64, the code of the last action played


class AsterixChance(NamedTuple):
    """The random numbers of one frame."""

    repeat: Tensor  # (N,) bool, the last action sticks
    rightward: Tensor  # (N,) bool, what appears comes from the left
    treasure: Tensor  # (N,) bool, it is treasure
    lane: Tensor  # (N,) in [0, 1), its lane: as a share of the empty ones, from the top


class Asterix(MinAtarGame[AsterixState, AsterixChance]):
    """MinAtar's Asterix, frame for frame.

    Observation: (10, 10, 4) bool by row and column: player, enemy, trail (the cell behind an enemy or treasure),
        gold (treasure).
    Action: 0 stays, 1 goes left, 2 up, 3 right, 4 down, one cell; with all six of MinAtar's (no-op, left, up, right,
        down, fire) fire stays.
    Reward: 1 for every treasure.
    Episode end: the player meets an enemy.
    Source: Young and Tian, "MinAtar", 2019, arXiv:1903.03176; ``minatar`` 1.0.15, see ``envs/minatar/game.py``.

    Enemies and treasures appear at the sides, in lanes that are empty, a treasure one time in three. As the level
    rises, they appear more often with every level and move faster with every second one.

    Args:
        difficulty_ramping: Whether the level rises.
        spawn_interval: Frames from one appearance to the next at level 0; one less with every level, down to 1.
        move_interval: Frames from one move of what is on the board to the next at level 0; one less with every second
            level, down to 1.
        ramp_interval: Two less than the frames from one level to the next, as MinAtar counts.
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Whether there are five actions, or all six of MinAtar's.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], an interval not a whole number of at least 1, or one
            of the others neither true nor false.
    """

    channels: ClassVar[dict[str, Look]] = {
        "player": Look(SKY, 0.08, 0.42),
        "enemy": Look(RED),
        "trail": Look("#7d8698", 0.34, 0.16),
        "gold": Look(YELLOW, 0.16, 0.34),
    }
    moves = (NOOP, LEFT, UP, RIGHT, DOWN)

    def __init__(
        self,
        *,
        difficulty_ramping: bool = True,
        spawn_interval: int = 10,
        move_interval: int = 5,
        ramp_interval: int = 100,
        sticky_action_prob: float = 0.1,
        minimal_actions: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(sticky_action_prob=sticky_action_prob, minimal_actions=minimal_actions, **base)
        self.spawn_interval = self.whole("spawn_interval", spawn_interval, at_least=1)
        self.move_interval = self.whole("move_interval", move_interval, at_least=1)
        self.ramp_interval = self.whole("ramp_interval", ramp_interval, at_least=1)
        ramping = self.choice("difficulty_ramping", difficulty_ramping, (True, False))
        self.top_level = max(spawn_interval - 1, 2 * (move_interval - 1)) if ramping else 0  # both are down to 1 there
        kinds = {ENEMY: ("enemy", "trail"), TREASURE: ("gold", "trail")}
        columns = range(SIZE)
        self._lanes = Lanes(list(self.channels), kinds, player=columns, wraps=False, device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> AsterixState:
        """The player in the middle of an empty board."""
        empty = torch.zeros(n, LANES, dtype=torch.int8, device=self.device)
        return AsterixState(
            player_x=self.full(n, 5),
            player_y=self.full(n, 5),
            kind=empty,
            x=empty,
            spawn_timer=self.full(n, self.spawn_interval),
            move_timer=self.full(n, self.move_interval),
            ramp_timer=self.full(n, self.ramp_interval),
            level=self.full(n, 0),
            last_action=self.full(n, NOOP),
        )

    def draw(self, n: int, rng: torch.Generator | None) -> AsterixChance:
        """Either side is as likely as the other, treasure half as likely as an enemy, and all lanes alike."""
        side, kind, lane = torch.rand(3, n, generator=rng, device=self.device, dtype=self.dtype).unbind()
        return AsterixChance(self.draw_repeat(n, rng), side < 1 / 2, kind < 1 / 3, lane)

    def advance(
        self, state: AsterixState, action: Tensor, chance: AsterixChance
    ) -> tuple[AsterixState, Tensor, Tensor]:
        """Something appears, the player moves, everything else moves, and at last it may get harder."""
        action = self.stick(state.last_action, action, chance.repeat)
        spawns, moves = state.spawn_timer == 0, state.move_timer == 0
        kind, x = self._spawn(state.kind, state.x, spawns, chance)
        player_x = (state.player_x + self.column_step(action)).clamp(0, SIZE - 1)
        player_y = (state.player_y + self.row_step(action)).clamp(1, LANES)

        kind, taken, hit = self._meet(kind, x, player_x, player_y)
        ahead = x + kind.sign() * moves.unsqueeze(1)
        x = ahead.clamp(0, SIZE - 1)
        kind = kind * (x == ahead)  # the others left the board
        kind, taken_later, hit_later = self._meet(kind, x, player_x, player_y)

        ramping = state.level < self.top_level
        harder = ramping & (state.ramp_timer < 0)
        spawn_interval = (self.spawn_interval - state.level).clamp(min=1)
        move_interval = (self.move_interval - state.level // 2).clamp(min=1)
        after = AsterixState(
            player_x=player_x,
            player_y=player_y,
            kind=kind,
            x=x * (kind != 0),
            spawn_timer=torch.where(spawns, spawn_interval, state.spawn_timer) - 1,
            move_timer=torch.where(moves, move_interval, state.move_timer) - 1,
            ramp_timer=(state.ramp_timer - ramping.long()).masked_fill(harder, self.ramp_interval),
            level=state.level + harder,
            last_action=action,
        )
        return after, (taken | taken_later).to(self.dtype), hit | hit_later

    def _spawn(self, kind: Tensor, x: Tensor, spawns: Tensor, chance: AsterixChance) -> tuple[Tensor, Tensor]:
        """``kind`` and ``x`` with something new in one empty lane, if there is one, where ``spawns`` (N,)."""
        empty = kind == 0
        count = empty.cumsum(1, dtype=torch.int8)  # of the empty lanes down to each one
        wanted = ((chance.lane * count[:, -1]).to(torch.int8) + 1) * spawns
        chosen = empty & (count == wanted.unsqueeze(1))  # no count of an empty lane is 0
        new = (chance.treasure.to(torch.int8) + ENEMY) * (2 * chance.rightward.to(torch.int8) - 1)
        start = (SIZE - 1) * (~chance.rightward).to(torch.int8)
        return kind + chosen * new.unsqueeze(1), x + chosen * start.unsqueeze(1)

    @staticmethod
    def _meet(kind: Tensor, x: Tensor, player_x: Tensor, player_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``kind`` without the treasure where the player is; whether there was one, or an enemy: (N,) bool each."""
        lane = player_y.unsqueeze(1) - 1
        own = kind.gather(1, lane)
        what = own.abs() * (x.gather(1, lane) == player_x.unsqueeze(1))
        taken, hit = what == TREASURE, what == ENEMY
        return kind.scatter(1, lane, own * ~taken), taken.squeeze(1), hit.squeeze(1)

    def observe(self, state: AsterixState) -> Tensor:
        """(N, 10, 10, 4) bool."""
        return self.board(self._lanes.light(state.kind, state.x, state.player_y, state.player_x))
