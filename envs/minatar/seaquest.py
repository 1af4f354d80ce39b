"""MinAtar's Seaquest: pick up divers, shoot what swims, and come up for air in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from rltrain.canvas import GREEN, ORANGE, RED, SKY, YELLOW
from rltrain.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, SIZE, UP, Look, MinAtarGame

ROWS = 9  # that the player gets to, the surface among them; the tenth shows the gauges
COLUMNS = (1 << SIZE) - 1  # one bit per column
SWIM = COLUMNS | COLUMNS << SIZE | COLUMNS << 2 * SIZE
SWIM |= SWIM << 3 * SIZE  # all bits of a lane: ten columns for each of the waits 0 to 5
FIRST = SWIM // COLUMNS  # of each wait, column 0
SPAWN, FASTEST_SPAWN = 20, 1  # frames between enemies at first and at last
WAIT, SHORTEST_WAIT = 5, 2  # frames that an enemy waits in a cell after that of its arrival, at first and at last
PAIR = 3 | 3 << 16 | 3 << 32 | 3 << 48  # two columns of four kinds of things, sixteen bits apart
FOLD = 1 << 48 | 1 << 34 | 1 << 20 | 1 << 6  # times such columns, and >> 48: the same, two bits apart
TOP_LEVEL = max(SPAWN - FASTEST_SPAWN, 2 * (WAIT - SHORTEST_WAIT))
DIVER_SPAWN, DIVER_STEP = 30, 6  # frames between divers, and between a diver's moves
COOL_DOWN = 5  # frames between the player's shots
RELOAD = 10  # frames that an enemy submarine waits between its shots
CREW = 6  # divers on board at most


@dataclass
class SeaquestState:
    """The board. Row 0 is the surface; columns "on the way" count from the side that something came in by.

    An enemy is one bit of its row's lane: bit 10 w + c of the enemy that is in column c on its way and moves after w
    more frames. No two enemies of a game ever share such a bit, even in different rows: they come one by one, those
    that came first move first, and while the waits get shorter there are at least fourteen frames between them.
    """

    x: Tensor  # (N,) int64, the player's column
    y: Tensor  # (N,) int64, its row, 0 to 8
    facing: Tensor  # (N,) int64, 1 to the right, -1 to the left
    cool_down: Tensor  # (N,) int64, frames until the player can shoot
    bullet_x: Tensor  # (N, 2) int64, columns of the player's bullets, the older first; 0 where there is none
    bullet_y: Tensor  # (N, 2) int64, their rows
    bullet_dx: Tensor  # (N, 2) int64, 1 to the right, -1 to the left, 0 where there is none
    rightward: Tensor  # (N, 9) bool, the row's enemies go to the right
    fish: Tensor  # (N, 9) int64, lanes
    subs: Tensor  # (N, 9) int64, lanes
    loading: Tensor  # (N, 11) int64, the bits of those submarines, of all lanes, that shoot after 0, 1, ... frames
    fire: Tensor  # (N, 2, 9) int64, the enemies' bullets to the left and to the right, one bit per column on the way
    diver_x: Tensor  # (N, 2) int64, columns of the divers, those that came first first; 0 where there is none
    diver_y: Tensor  # (N, 2) int64, their rows
    diver_dx: Tensor  # (N, 2) int64, 1 to the right, -1 to the left, 0 where there is none
    spawn_timer: Tensor  # (N,) int64, frames until an enemy appears
    diver_timer: Tensor  # (N,) int64, frames until a diver appears; the divers' moves go by it as well
    crew: Tensor  # (N,) int64, divers on board, less than 0 after all six were brought up
    oxygen: Tensor  # (N,) int64, frames that it lasts
    surfaced: Tensor  # (N,) bool, the player has not been under water since the last visit to the surface
    level: Tensor  # (N,) int64, how often it got harder
    last_action: Tensor  # (N,) int64, the code of the last action played


class SeaquestChance(NamedTuple):
    """What one frame leaves to chance."""

    repeat: Tensor  # (N,) bool, the last action sticks
    rightward: Tensor  # (N,) bool, an enemy that appears comes from the left
    sub: Tensor  # (N,) bool, it is a submarine
    row: Tensor  # (N,) int64, its row, 1 to 8
    diver_rightward: Tensor  # (N,) bool, a diver that appears comes from the left
    diver_row: Tensor  # (N,) int64, its row, 1 to 8


class Seaquest(MinAtarGame[SeaquestState, SeaquestChance]):
    """MinAtar's Seaquest, frame for frame.

    Observation: (10, 10, 10) bool by row and column: sub_front and sub_back (the player's submarine),
        friendly_bullet, trail (the cell behind an enemy or a diver), enemy_bullet, enemy_fish, enemy_sub,
        oxygen_guage and diver_guage (bars in the bottom row), diver.
    Action: 0 stays, 1 goes left, 2 up, 3 right, 4 down, one cell, 5 shoots the way the submarine faces.
    Reward: 1 for every enemy shot; at the surface with six divers, one for every cell of the oxygen bar.
    Episode end: the player meets an enemy or its bullet, has no oxygen left, or surfaces without a diver.
    Source: Young and Tian, "MinAtar", 2019, arXiv:1903.03176; ``minatar`` 1.0.15, see ``envs/minatar/game.py``.

    Every visit to the surface costs a diver, fills the oxygen, and raises the level: enemies come more often with
    every level, and move faster with every second one until the sixth. As in MinAtar, the visit that brings up all
    six divers takes one more than there are, and less than none on board is enough to surface again.

    Args:
        difficulty_ramping: Whether the level rises.
        max_oxygen: Frames under water that the oxygen lasts.
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Makes no difference here: all six of MinAtar's actions do something.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], ``max_oxygen`` not a whole number of at least 1, or
            one of the others neither true nor false.
    """

    channels: ClassVar[dict[str, Look]] = {
        "sub_front": Look(SKY, 0.08, 0.3),
        "sub_back": Look("#3f7fa6", 0.14, 0.2),
        "friendly_bullet": Look("#ffffff", 0.36, 0.14),
        "trail": Look("#7d8698", 0.34, 0.16),
        "enemy_bullet": Look("#ffb3b3", 0.36, 0.14),
        "enemy_fish": Look(ORANGE, 0.1, 0.4),
        "enemy_sub": Look(RED),
        "oxygen_guage": Look("#d7e3f4", 0.2, 0.0, "oxygen"),
        "diver_guage": Look(GREEN, 0.2, 0.0, "divers on board"),
        "diver": Look(YELLOW, 0.16, 0.34),
    }
    moves = (NOOP, LEFT, UP, RIGHT, DOWN, FIRE)

    def __init__(
        self,
        *,
        difficulty_ramping: bool = True,
        max_oxygen: int = 200,
        sticky_action_prob: float = 0.1,
        minimal_actions: bool = True,
        **base: Any,
    ) -> None:
        super().__init__(sticky_action_prob=sticky_action_prob, minimal_actions=minimal_actions, **base)
        ramping = self.choice("difficulty_ramping", difficulty_ramping, (True, False))
        self.top_level = TOP_LEVEL if ramping else 0
        self.max_oxygen = self.whole("max_oxygen", max_oxygen, at_least=1)
        turned = [sum(1 << SIZE - 1 - k for k in range(SIZE) if lane >> k & 1) for lane in range(1 << SIZE)]
        # Columns by columns on the way, as bits, to the left and then to the right.
        self._turned = torch.tensor([*turned, *range(1 << SIZE)], device=self.device)
        self._pair_shifts = torch.arange(0, SIZE, 2, device=self.device)
        self._pictures, self._gauges = self._draw_pairs()
        self._rows_of_lanes = torch.arange(ROWS, device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> SeaquestState:
        """The player at the surface of an empty sea."""
        two = torch.zeros(n, 2, dtype=torch.int64, device=self.device)
        lanes = torch.zeros(n, ROWS, dtype=torch.int64, device=self.device)
        return SeaquestState(
            x=self.full(n, 5),
            y=self.full(n, 0),
            facing=self.full(n, -1),
            cool_down=self.full(n, 0),
            bullet_x=two,
            bullet_y=two,
            bullet_dx=two,
            rightward=lanes.bool(),
            fish=lanes,
            subs=lanes,
            loading=torch.zeros(n, RELOAD + 1, dtype=torch.int64, device=self.device),
            fire=torch.zeros(n, 2, ROWS, dtype=torch.int64, device=self.device),
            diver_x=two,
            diver_y=two,
            diver_dx=two,
            spawn_timer=self.full(n, SPAWN),
            diver_timer=self.full(n, DIVER_SPAWN),
            crew=self.full(n, 0),
            oxygen=self.full(n, self.max_oxygen),
            surfaced=torch.ones(n, dtype=torch.bool, device=self.device),
            level=self.full(n, 0),
            last_action=self.full(n, NOOP),
        )

    def draw(self, n: int, rng: torch.Generator | None) -> SeaquestChance:
        """Either side is as likely as the other, a submarine half as likely as a fish, and all rows alike."""
        side, kind, diver_side = torch.rand(3, n, generator=rng, device=self.device, dtype=self.dtype).unbind()
        row, diver_row = torch.randint(1, ROWS, (2, n), generator=rng, device=self.device).unbind()
        return SeaquestChance(self.draw_repeat(n, rng), side < 1 / 2, kind < 1 / 3, row, diver_side < 1 / 2, diver_row)

    def advance(
        self, state: SeaquestState, action: Tensor, chance: SeaquestChance
    ) -> tuple[SeaquestState, Tensor, Tensor]:
        """Things appear, the player moves, then its bullets, the divers, and the enemies; then the air counts."""
        action = self.stick(state.last_action, action, chance.repeat)
        wait = (WAIT - state.level // 2).clamp(min=SHORTEST_WAIT)
        rightward, fish, subs, loading = self._spawn(state, chance, wait)
        spawn_timer = torch.where(
            state.spawn_timer == 0, (SPAWN - state.level).clamp(min=FASTEST_SPAWN), state.spawn_timer
        )

        step = self.column_step(action)
        shoots = (action == FIRE) & (state.cool_down == 0)
        x = (state.x + step).clamp(0, SIZE - 1)
        y = (state.y + self.row_step(action)).clamp(0, ROWS - 1)
        facing = torch.where(step == 0, state.facing, step)
        cool_down = (state.cool_down.masked_fill(shoots, COOL_DOWN) - 1).clamp(min=0)

        bullets, fish, subs, kills = self._shoot(state, shoots, rightward, fish, subs)
        divers, crew = self._dive(state, chance, x, y)

        row = y.unsqueeze(1)
        own_right = rightward.gather(1, row).squeeze(1)
        own_bit = self._way(own_right, x)  # the player's column on the way of its row's enemies
        own = ((fish | subs).gather(1, row).squeeze(1) >> own_bit) & FIRST
        fish, fish_came = self._swim(fish, wait)
        subs, subs_came = self._swim(subs, wait)
        loading, _ = self._swim(loading, wait)
        moved = ((fish | subs).gather(1, row).squeeze(1) >> own_bit) & FIRST
        hit = (own | moved) != 0

        # Every submarine that is ready shoots from where it is now, even if it swims into a bullet right there.
        shots = self._flatten(subs & loading[:, :1])
        fire = state.fire | torch.stack((shots * ~rightward, shots * rightward), 1)
        mine = torch.stack((SIZE - 1 - x, x), 1)
        lit = (fire | fire << 1).gather(2, row.unsqueeze(1).expand(-1, 2, 1)).squeeze(2)
        hit = hit | ((lit >> mine) & 1).bool().any(1)
        fire = (fire << 1) & COLUMNS

        bullets, fish, subs, rammed = self._ram(bullets, x, y, rightward, fish, subs, fish_came, subs_came, wait)
        loading = torch.cat((loading[:, 1:], loading[:, :1]), 1) & subs.sum(1, keepdim=True)
        rightward = rightward & ((fish | subs) != 0)

        under = y > 0
        up = ~(under | state.surfaced)
        visit = up & (crew != 0)
        home = visit & (crew == CREW)
        bonus = torch.where(home, state.oxygen * 10 // self.max_oxygen, 0)
        ended = hit | (state.oxygen <= 0) | (up & (crew == 0))
        after = SeaquestState(
            x=x,
            y=y,
            facing=facing,
            cool_down=cool_down,
            bullet_x=bullets[0],
            bullet_y=bullets[1],
            bullet_dx=bullets[2],
            rightward=rightward,
            fish=fish,
            subs=subs,
            loading=loading,
            fire=fire,
            diver_x=divers[0],
            diver_y=divers[1],
            diver_dx=divers[2],
            spawn_timer=spawn_timer - 1,
            diver_timer=state.diver_timer.masked_fill(state.diver_timer == 0, DIVER_SPAWN) - 1,
            crew=crew.masked_fill(home, 0) - visit.long(),
            oxygen=(state.oxygen - under.long()).masked_fill(visit, self.max_oxygen),
            surfaced=visit | (state.surfaced & ~under),
            level=state.level + (visit & (state.level < self.top_level)),
            last_action=action,
        )
        return after, (kills + rammed + bonus).to(self.dtype), ended

    def _spawn(
        self, state: SeaquestState, chance: SeaquestChance, wait: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The lanes with a new enemy where it is time, unless others come towards it in its row."""
        row = chance.row.unsqueeze(1)
        against = ((state.fish | state.subs).gather(1, row) != 0).squeeze(1) & (
            state.rightward.gather(1, row).squeeze(1) != chance.rightward
        )
        new = (state.spawn_timer == 0) & ~against
        bit = new.long() << SIZE * wait
        new_sub, new_fish = bit * chance.sub, bit * ~chance.sub
        here = row == self._rows_of_lanes
        rightward = torch.where(here & new.unsqueeze(1), chance.rightward.unsqueeze(1), state.rightward)
        loading = torch.cat((state.loading[:, :-1], state.loading[:, -1:] | new_sub.unsqueeze(1)), 1)
        return rightward, state.fish | here * new_fish.unsqueeze(1), state.subs | here * new_sub.unsqueeze(1), loading

    @staticmethod
    def _way(rightward: Tensor, x: Tensor) -> Tensor:
        """The column on the way of what goes to the right, or to the left, for a column of the board; and back."""
        return torch.where(rightward, x, SIZE - 1 - x)

    @staticmethod
    def _swim(lanes: Tensor, wait: Tensor) -> tuple[Tensor, Tensor]:
        """Lanes a frame later, and the columns on the way, as bits, that something just came to."""
        came = (lanes << 1) & (COLUMNS - 1)
        return lanes >> SIZE | came << (SIZE * wait).unsqueeze(1), came

    @staticmethod
    def _flatten(lanes: Tensor) -> Tensor:
        """The columns on the way, as bits, of what is in lanes."""
        lanes = lanes | lanes >> 3 * SIZE
        return (lanes | lanes >> SIZE | lanes >> 2 * SIZE) & COLUMNS

    @staticmethod
    def _pack(x: Tensor, y: Tensor, dx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two slots, those without direction emptied, the first of them filled first."""
        kept = dx != 0
        x, y = x * kept, y * kept
        later = ~kept[:, :1]
        first = [torch.where(later, part[:, 1:], part[:, :1]) for part in (x, y, dx)]
        second = [part[:, 1:] * ~later for part in (x, y, dx)]
        x, y, dx = (torch.cat(pair, 1) for pair in zip(first, second, strict=True))
        return x, y, dx

    def _shoot(
        self, state: SeaquestState, shoots: Tensor, rightward: Tensor, fish: Tensor, subs: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Tensor]:
        """The player's bullets a frame later, the lanes without those that they hit, and how many those are.

        There are never three bullets: one has left the board nine frames after the shot at the latest. A bullet hits
        the fish in its cell that came first, or the submarine if there is no fish; the newer bullet goes first.
        """
        # Where there is none, the older; otherwise the newer.
        free = state.bullet_dx[:, 0] == 0
        slot = torch.stack((shoots & free, shoots & ~free), 1)
        dx = torch.where(slot, state.facing.unsqueeze(1), state.bullet_dx)
        y = torch.where(slot, state.y.unsqueeze(1), state.bullet_y)
        x = torch.where(slot, state.x.unsqueeze(1), state.bullet_x) + dx
        dx = dx * ((x >= 0) & (x < SIZE))
        kept, kills = [], torch.zeros_like(state.x)
        for k in (1, 0):
            row = y[:, k : k + 1]
            way = self._way(rightward.gather(1, row), x[:, k : k + 1]).clamp(0, SIZE - 1)
            flies = (dx[:, k : k + 1] != 0).long()
            fish_lane, sub_lane = fish.gather(1, row), subs.gather(1, row)
            fish_here = (fish_lane >> way) & (FIRST * flies)
            sub_here = (sub_lane >> way) & (FIRST * (flies * (fish_here == 0)))
            fish = fish.scatter(1, row, fish_lane ^ ((fish_here & -fish_here) << way))
            subs = subs.scatter(1, row, sub_lane ^ ((sub_here & -sub_here) << way))
            hits = (fish_here | sub_here) != 0
            kept.append(dx[:, k : k + 1] * ~hits)
            kills = kills + hits.squeeze(1)
        return self._pack(x, y, torch.cat(kept[::-1], 1)), fish, subs, kills

    def _ram(
        self,
        bullets: tuple[Tensor, Tensor, Tensor],
        player_x: Tensor,
        player_y: Tensor,
        rightward: Tensor,
        fish: Tensor,
        subs: Tensor,
        fish_came: Tensor,
        subs_came: Tensor,
        wait: Tensor,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Tensor]:
        """Enemies that swam into the cell of a bullet; of two bullets in one cell, only the older hits."""
        x, y, dx = bullets
        way = self._way(rightward.gather(1, y), x)
        live = (dx != 0) & ((x != player_x.unsqueeze(1)) | (y != player_y.unsqueeze(1)))
        both = (x[:, :1] == x[:, 1:]) & (y[:, :1] == y[:, 1:]) & live[:, :1]
        live = torch.cat((live[:, :1], live[:, 1:] & ~both), 1)
        fish_bit = ((fish_came.gather(1, y) >> way) & 1) * live
        sub_bit = ((subs_came.gather(1, y) >> way) & 1) * live
        at = way + (SIZE * wait).unsqueeze(1)
        fish = fish.scatter_add(1, y, -(fish_bit << at))
        subs = subs.scatter_add(1, y, -(sub_bit << at))
        hits = fish_bit + sub_bit
        return self._pack(x, y, dx * (hits == 0)), fish, subs, hits.sum(1)

    def _dive(
        self, state: SeaquestState, chance: SeaquestChance, player_x: Tensor, player_y: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """The divers a frame later, less those that the player picks up, and how many are on board then.

        There are never three: one has crossed the board when the second after it appears.
        """
        new, free = state.diver_timer == 0, state.diver_dx[:, 0] == 0
        slot = torch.stack((new & free, new & ~free), 1)
        side = chance.diver_rightward.long()
        dx = torch.where(slot, (2 * side - 1).unsqueeze(1), state.diver_dx)
        x = torch.where(slot, ((SIZE - 1) * (1 - side)).unsqueeze(1), state.diver_x)
        y = torch.where(slot, chance.diver_row.unsqueeze(1), state.diver_y)
        moves = state.diver_timer % DIVER_STEP == 1
        ahead = x + dx * moves.unsqueeze(1)
        at_row = (y == player_y.unsqueeze(1)) & (dx != 0)
        player = player_x.unsqueeze(1)
        meets = at_row & ((x == player) | (ahead == player))
        second = meets[:, 1] & (state.crew < CREW)
        crew = state.crew + second
        first = meets[:, 0] & (crew < CREW)
        taken = torch.stack((first, second), 1)
        dx = dx * ~(taken | (ahead < 0) | (ahead >= SIZE))
        return self._pack(ahead, y, dx), crew + first

    def observe(self, state: SeaquestState) -> Tensor:
        """(N, 10, 10, 10) bool."""
        fish, subs = self._flatten(state.fish), self._flatten(state.subs)
        side = state.rightward.long() << SIZE
        fish, subs = self._columns_of(fish | side), self._columns_of(subs | side)
        swimmers = fish | subs
        trail = torch.where(state.rightward, swimmers >> 1, (swimmers << 1) & COLUMNS)
        fire = self._columns_of(state.fire[:, 0]) | state.fire[:, 1]
        lanes = trail | fire << 16 | fish << 32 | subs << 48
        pairs = (lanes.unsqueeze(2) >> self._pair_shifts) & PAIR  # (N, 9, 5), two columns each
        codes = (pairs * FOLD) >> 48
        crew, oxygen = state.crew.clamp(min=0), state.oxygen.clamp(min=0) * SIZE // self.max_oxygen
        gauges = self._gauges.index_select(0, oxygen * (CREW + 1) + crew).unsqueeze(1)
        board = self._pictures.index_select(0, torch.cat((codes, gauges), 1).view(-1)).view(len(codes), -1)

        tail = state.diver_x - state.diver_dx
        bullet, diver = state.bullet_dx != 0, state.diver_dx != 0
        trails = diver & (tail >= 0) & (tail < SIZE)
        front = self.place(state.y, state.x, "sub_front").unsqueeze(1)  # lit once more for what there is not
        places = (
            front,
            self.place(state.y, state.x - state.facing, "sub_back").unsqueeze(1),
            torch.where(bullet, self.place(state.bullet_y, state.bullet_x, "friendly_bullet"), front),
            torch.where(diver, self.place(state.diver_y, state.diver_x, "diver"), front),
            torch.where(trails, self.place(state.diver_y, tail, "trail"), front),
        )
        where = torch.cat(places, 1)
        on = torch.ones((), dtype=torch.bool, device=self.device).expand(where.shape)
        return board.scatter_(1, where, on).view(-1, SIZE, SIZE, len(self.channels))

    def _columns_of(self, ways: Tensor) -> Tensor:
        """Columns, as bits, of columns on the way to the left, or with bit 10 to the right."""
        return self._turned.index_select(0, ways.reshape(-1)).view(ways.shape)  # three times as fast as take

    def _draw_pairs(self) -> tuple[Tensor, Tensor]:
        """Pictures (272, 20) bool of two cells side by side, and which five (77, 5) make the gauges' row.

        Bit 2 k + c of a picture's number is that cell c shows channel 3 + k; from number 256 on it is 7 + k.
        """
        names = list(self.channels)
        number = torch.arange(272)
        pictures = torch.zeros(272, 2, len(names), dtype=torch.bool)
        for k, name in enumerate(("trail", "enemy_bullet", "enemy_fish", "enemy_sub")):
            for c in range(2):
                pictures[:256, c, names.index(name)] = (number[:256] >> 2 * k + c & 1).bool()
        for k, name in enumerate(("oxygen_guage", "diver_guage")):
            for c in range(2):
                pictures[256:, c, names.index(name)] = (number[:16] >> 2 * k + c & 1).bool()
        column = torch.arange(SIZE)
        oxygen = column < torch.arange(SIZE + 1).view(-1, 1, 1)
        crew = (column >= 9 - torch.arange(CREW + 1).view(-1, 1)) & (column < 9)
        bits = (oxygen.long() + 4 * crew.long()).view(-1, SIZE // 2, 2)
        gauges = 256 + bits[:, :, 0] + 2 * bits[:, :, 1]
        return pictures.view(272, -1).to(self.device), gauges.to(self.device)
