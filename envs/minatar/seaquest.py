"""MinAtar's Seaquest: pick up divers, shoot what swims, and come up for air in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rltrain.canvas import GREEN, ORANGE, RED, SKY, YELLOW
from rltrain.envs.minatar.game import DOWN, FIRE, LEFT, NOOP, RIGHT, SIZE, UP, Look, MinAtarGame, words
from rltrain.tree import columns

ROWS = 9  # that the player gets to, the surface among them; the tenth shows the gauges
COLUMNS = (1 << SIZE) - 1  # one bit per column
SWIM = COLUMNS | COLUMNS << SIZE | COLUMNS << 2 * SIZE
SWIM |= SWIM << 3 * SIZE  # all bits of a lane: ten columns for each of the waits 0 to 5
FIRST = SWIM // COLUMNS  # of each wait, column 0
SPAWN, FASTEST_SPAWN = 20, 1  # frames between enemies at first and at last
WAIT, SHORTEST_WAIT = 5, 2  # frames that an enemy waits in a cell after that of its arrival, at first and at last
FIRE_LEFT, FIRE_RIGHT = COLUMNS, COLUMNS << 16  # the enemies' bullets of a row
TOP_LEVEL = max(SPAWN - FASTEST_SPAWN, 2 * (WAIT - SHORTEST_WAIT))
DIVER_SPAWN, DIVER_STEP = 30, 6  # frames between divers, and between a diver's moves
COOL_DOWN = 5  # frames between the player's shots
RELOAD = 10  # frames that an enemy submarine waits between its shots
CREW = 6  # divers on board at most
TO_RIGHT = 100  # what a slot holds more for what goes to the right
NOWHERE = -1  # the place of what there is not
SLOTS = TO_RIGHT + 1 + SIZE * ROWS  # that many different ones


@dataclass
class SeaquestState:
    """The board. Row 0 is the surface; columns "on the way" count from the side that something came in by.

    An enemy is one bit of its row's lane: bit 10 w + c of the enemy that is in column c on its way and moves after w
    more frames. No two enemies of a game ever share such a bit, even in different rows: they come one by one, those
    that came first move first, and while the waits get shorter there are at least fourteen frames between them.

    A slot is 1 + 10 row + column of a bullet or a diver, 100 more if it goes to the right, and 0 where there is none.
    """

    x: Tensor  # (N,) int64, the player's column
    y: Tensor  # (N,) int64, its row, 0 to 8
    facing: Tensor  # (N,) int64, 1 to the right, -1 to the left
    cool_down: Tensor  # (N,) int64, frames until the player can shoot
    bullets: Tensor  # (N, 2) int64, slots of the player's bullets, the older first
    rightward: Tensor  # (N, 9) bool, the row's enemies go to the right
    fish: Tensor  # (N, 9) int64, lanes
    subs: Tensor  # (N, 9) int64, lanes
    loading: Tensor  # (N, 11) int64, the bits of those submarines, of all lanes, that shoot after 0, 1, ... frames
    fire: (
        Tensor  # (N, 9) int32, the row's enemies' bullets, bit c of those to the left, 16 + c to the right in column c
    )
    divers: Tensor  # (N, 2) int64, slots of the divers, those that came first first
    spawn_timer: Tensor  # (N,) int64, frames until an enemy appears
    diver_timer: Tensor  # (N,) int64, frames until a diver appears; the divers' moves go by it as well
    crew: Tensor  # (N,) int64, divers on board, less than 0 after all six were brought up
    oxygen: Tensor  # (N,) int64, frames that it lasts
    surfaced: Tensor  # (N,) bool, the player has not been under water since the last visit to the surface
    level: Tensor  # (N,) int64, how often it got harder
    last_action: Tensor  # (N,) int64, the code of the last action played


class SeaquestChance(NamedTuple):
    """The random numbers of one frame."""

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
        ways = range(1 << SIZE)
        turned = [sum(1 << SIZE - 1 - k for k in range(SIZE) if way >> k & 1) for way in ways]
        # A row's bullets by the columns, as bits, on the way to the left, and then to the right, of those who shoot.
        shots = torch.tensor([*turned, *(way << 16 for way in ways)], dtype=torch.int32)
        self._shots = shots.to(self.device)
        # By slots: those a cell farther on, rows, cells as bits of lanes to the left and to the right, what is lit.
        slot = torch.arange(SLOTS)
        on, right = (slot % TO_RIGHT > 0) & (slot % TO_RIGHT <= SIZE * ROWS), slot > TO_RIGHT
        row, x = (slot % TO_RIGHT - 1) // SIZE * on, (slot % TO_RIGHT - 1) % SIZE
        dx = 2 * right.long() - 1
        self._ahead = ((slot + dx) * (on & (x + dx >= 0) & (x + dx < SIZE))).to(self.device)
        self._rows_of_slots = row.to(self.device)
        self._cells = (torch.cat((FIRST << SIZE - 1 - x, FIRST << x)) * on.repeat(2)).to(self.device)
        self._bullet_places = torch.where(on, self.place(row, x, "friendly_bullet"), NOWHERE).to(self.device)
        self._diver_places = torch.where(on, self.place(row, x, "diver"), NOWHERE).to(self.device)
        trailed = on & (x - dx >= 0) & (x - dx < SIZE)
        self._trail_places = torch.where(trailed, self.place(row, x - dx, "trail"), NOWHERE).to(self.device)
        self._fish_rows = torch.cat((self._draw_swimmers("enemy_fish"), self._draw_gauges())).to(self.device)
        self._sub_rows = self._draw_swimmers("enemy_sub").to(self.device)
        self._fire_rows = self._draw_cells("enemy_bullet", torch.arange(1 << SIZE)).to(self.device)
        column = torch.arange(SIZE)
        self._here = (1 << column | 1 << 16 + column).int().to(self.device)  # a bullet there, by its column
        self._rows_of_lanes = torch.arange(ROWS, device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> SeaquestState:
        """The player at the surface of an empty sea."""
        none = columns((self.full(n, 0), self.full(n, 0)))
        lanes = torch.zeros(n, ROWS, dtype=torch.int64, device=self.device)
        return SeaquestState(
            x=self.full(n, 5),
            y=self.full(n, 0),
            facing=self.full(n, -1),
            cool_down=self.full(n, 0),
            bullets=none,
            rightward=lanes.bool(),
            fish=lanes,
            subs=lanes,
            loading=torch.zeros(n, RELOAD + 1, dtype=torch.int64, device=self.device),
            fire=lanes.int(),
            divers=none,
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
        drawn = torch.randint(3 << 8, (n,), generator=rng, device=self.device)
        row, diver_row = (drawn & 7) + 1, (drawn >> 3 & 7) + 1
        rightward, diver_rightward = (drawn & 64).bool(), (drawn & 128).bool()
        return SeaquestChance(self.draw_repeat(n, rng), rightward, drawn < 1 << 8, row, diver_rightward, diver_row)

    def advance(
        self, state: SeaquestState, action: Tensor, chance: SeaquestChance
    ) -> tuple[SeaquestState, Tensor, Tensor]:
        """Things appear, the player moves, then its bullets, the divers, and the enemies; then the air counts."""
        action = self.stick(state.last_action, action, chance.repeat)
        wait = SIZE * (WAIT - (state.level >> 1)).clamp(min=SHORTEST_WAIT).unsqueeze(1)  # (N, 1), in bits of a lane
        rightward, fish, subs, new_sub = self._spawn(state, chance, wait)
        spawn_timer = torch.where(
            state.spawn_timer == 0, (SPAWN - state.level).clamp(min=FASTEST_SPAWN), state.spawn_timer
        )

        step = self.column_step(action)
        shoots = (action == FIRE) & (state.cool_down == 0)
        x = (state.x + step).clamp(0, SIZE - 1)
        y = (state.y + self.row_step(action)).clamp(0, ROWS - 1)
        facing = torch.where(step == 0, state.facing, step)
        cool_down = (state.cool_down.masked_fill(shoots, COOL_DOWN) - 1).clamp(min=0)

        place = SIZE * y + x + 1
        slots, rows, cells, kills = self._shoot(state, shoots, rightward, fish, subs)
        divers, crew = self._dive(state, chance, place)

        row = y.unsqueeze(1)
        right = rightward.gather(1, row).squeeze(1)
        own = self._cells.index_select(0, torch.add(place, right, alpha=SLOTS)).unsqueeze(1)
        swimmers = fish | subs
        fish, fish_came = self._swim(fish, wait)
        subs, subs_came = self._swim(subs, wait)
        loading, _ = self._swim(state.loading, wait)
        loading[:, -1:] |= new_sub >> SIZE
        hit = (((swimmers | fish | subs).gather(1, row) & own) != 0).squeeze(1)  # before or after they swim

        # Every submarine that is ready shoots from where it is now, even if it swims into a bullet right there.
        shots = self._flatten(subs & loading[:, :1]) | rightward.int() << SIZE
        fire = state.fire | self._shots.index_select(0, shots.view(-1)).view(shots.shape)
        flown = (fire >> 1) & FIRE_LEFT | (fire << 1) & FIRE_RIGHT
        hit = hit | (((fire | flown).gather(1, row).squeeze(1) & self._here.index_select(0, x)) != 0)

        slots, rammed = self._ram(slots, rows, cells, place, fish, subs, fish_came, subs_came, wait)
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
            bullets=self._pack(*slots.unbind()),
            rightward=rightward,
            fish=fish,
            subs=subs,
            loading=loading,
            fire=flown,
            divers=divers,
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
        """The lanes with a new enemy where it is time, unless others come towards it in its row.

        The last is the bit (N, 1) of a new submarine.
        """
        row = chance.row.unsqueeze(1)
        lane, right = (state.fish | state.subs).gather(1, row), state.rightward.gather(1, row)
        new = (state.spawn_timer.unsqueeze(1) == 0) & ((lane == 0) | (right == chance.rightward.unsqueeze(1)))
        bit = new.long() << wait
        new_sub = bit * chance.sub.unsqueeze(1)
        rightward = state.rightward.scatter(1, row, torch.where(new, chance.rightward.unsqueeze(1), right))
        fish = state.fish.scatter_add(1, row, bit - new_sub)
        return rightward, fish, state.subs.scatter_add(1, row, new_sub), new_sub

    @staticmethod
    def _swim(lanes: Tensor, wait: Tensor) -> tuple[Tensor, Tensor]:
        """Lanes a frame later, and the columns on the way, as bits, that something just came to."""
        came = (lanes << 1) & (COLUMNS - 1)
        return lanes >> SIZE | came << wait, came

    @staticmethod
    def _flatten(lanes: Tensor) -> Tensor:
        """The columns on the way, as bits, of what is in lanes, int32."""
        lanes = (lanes | lanes >> 3 * SIZE).int()
        return (lanes | lanes >> SIZE | lanes >> 2 * SIZE) & COLUMNS

    @staticmethod
    def _pack(first: Tensor, second: Tensor) -> Tensor:
        """Two slots (N,) as (N, 2), the first of them filled first."""
        later = first == 0
        return columns((torch.where(later, second, first), second.masked_fill(later, 0)))

    def _shoot(
        self, state: SeaquestState, shoots: Tensor, rightward: Tensor, fish: Tensor, subs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The player's bullets a frame later, and how many they hit; those are taken off the lanes, in place.

        The slots, rows, and cells, as bits of their rows' lanes, of the bullets are (2, N), the older first.

        There are never three bullets: one has left the board nine frames after the shot at the latest. A bullet hits
        the fish in its cell that came first, or the submarine if there is no fish; the newer bullet goes first.
        """
        muzzle = (SIZE * state.y + state.x + TO_RIGHT // 2 * (state.facing + 1) + 1) * shoots
        slots = self._ahead.index_select(0, self._join(state.bullets, muzzle).view(-1))
        rows = self._rows_of_slots.index_select(0, slots).view(2, -1)
        slots, cells, kills = slots.view(2, -1), [], []
        for k in (1, 0):
            row = rows[k].unsqueeze(1)
            right = rightward.gather(1, row).squeeze(1)
            cell = self._cells.index_select(0, torch.add(slots[k], right, alpha=SLOTS))
            fish_lane, sub_lane = fish.gather(1, row), subs.gather(1, row)
            fish_here = fish_lane & cell.unsqueeze(1)
            sub_here = (sub_lane & cell.unsqueeze(1)).masked_fill(fish_here != 0, 0)
            fish.scatter_(1, row, fish_lane ^ (fish_here & -fish_here))
            subs.scatter_(1, row, sub_lane ^ (sub_here & -sub_here))
            hit = ((fish_here | sub_here) != 0).squeeze(1)
            cells.append(cell)
            kills.append(hit)
        hits = torch.stack(kills[::-1])
        return slots.masked_fill(hits, 0), rows, torch.stack(cells[::-1]).masked_fill(hits, 0), hits.sum(0)

    def _ram(
        self,
        slots: Tensor,
        rows: Tensor,
        cells: Tensor,
        place: Tensor,
        fish: Tensor,
        subs: Tensor,
        fish_came: Tensor,
        subs_came: Tensor,
        wait: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Takes off the lanes, in place, what swam into the cell of a bullet: the bullets left, and how many it was.

        Of two bullets in one cell, only the older hits.
        """
        older, newer = cells.masked_fill((slots == place) | (slots == place + TO_RIGHT), 0).unbind()
        cell = torch.stack((older, newer.masked_fill((older == newer) & (rows[0] == rows[1]), 0)), 1)
        row = rows.T
        fish_bit, sub_bit = fish_came.gather(1, row) & cell, subs_came.gather(1, row) & cell
        fish.scatter_add_(1, row, -(fish_bit << wait))
        subs.scatter_add_(1, row, -(sub_bit << wait))
        fish_hit, sub_hit = (fish_bit != 0).T, (sub_bit != 0).T
        return slots.masked_fill(fish_hit | sub_hit, 0), torch.cat((fish_hit, sub_hit)).sum(0)

    @staticmethod
    def _join(slots: Tensor, new: Tensor) -> Tensor:
        """Slots (N, 2) as (2, N), and in the first empty one of them ``new`` (N,)."""
        first, second = slots.unbind(1)
        taken = new * (first == 0)
        return torch.stack((first + taken, second + (new - taken)))

    def _dive(self, state: SeaquestState, chance: SeaquestChance, place: Tensor) -> tuple[Tensor, Tensor]:
        """The divers a frame later, less those that the player picks up, and how many are on board then.

        There are never three: one has crossed the board when the second after it appears.
        """
        new = SIZE * chance.diver_row + SIZE + (TO_RIGHT - SIZE + 1) * chance.diver_rightward
        slots = self._join(state.divers, new * (state.diver_timer == 0))
        moved = self._ahead.index_select(0, slots.view(-1)).view(2, -1)
        ahead = torch.where(state.diver_timer % DIVER_STEP == 1, moved, slots)
        both = torch.stack((slots, ahead))
        first, second = ((both == place) | (both == place + TO_RIGHT)).any(0).unbind()
        second = second & (state.crew < CREW)
        crew = state.crew + second
        first = first & (crew < CREW)
        return self._pack(ahead[0].masked_fill(first, 0), ahead[1].masked_fill(second, 0)), crew + first

    def observe(self, state: SeaquestState) -> Tensor:
        """(N, 10, 10, 10) bool."""
        side = state.rightward.int() << SIZE
        crew, oxygen = state.crew.clamp(min=0), state.oxygen.clamp(min=0) * SIZE // self.max_oxygen
        gauges = 2 * (1 << SIZE) + oxygen * (CREW + 1) + crew
        fish = torch.cat((self._flatten(state.fish) | side, gauges.int().unsqueeze(1)), 1)
        subs = nn.functional.pad(self._flatten(state.subs) | side, (0, 1))  # nothing beside the gauges
        fire = nn.functional.pad((state.fire | state.fire >> 16) & COLUMNS, (0, 1))
        board = self._fish_rows.index_select(0, fish.view(-1))
        board |= self._sub_rows.index_select(0, subs.view(-1))
        board |= self._fire_rows.index_select(0, fire.view(-1))

        front = self.place(state.y, state.x, "sub_front")
        back = self.place(state.y, state.x - state.facing, "sub_back")
        parts = [front, back]
        for table, slots in (
            (self._bullet_places, state.bullets),
            (self._diver_places, state.divers),
            (self._trail_places, state.divers),
        ):
            first, second = table.index_select(0, slots.T.reshape(-1)).view(2, -1)
            parts += [first, second.masked_fill(first == second, NOWHERE)]
        return self.board(self._light(board.view(len(front), -1), torch.stack(parts, 1)))

    @staticmethod
    def _light(board: Tensor, places: Tensor) -> Tensor:
        """Words (N, W) int32 of boards with different places (N, P), some of them ``NOWHERE``, lit, in place."""
        word = places.clamp(min=0) >> 2
        bits = (places != NOWHERE).int() << 8 * (places & 3).int()
        return board.scatter_add_(1, word, bits & ~board.gather(1, word))

    def _draw_cells(self, channel: str, columns: Tensor) -> Tensor:
        """Rows (K, 25) of words with the cells of a channel lit that ``columns`` (K,), as bits, say."""
        rows = torch.zeros(len(columns), SIZE, len(self.channels), dtype=torch.bool)
        rows[:, :, list(self.channels).index(channel)] = (columns.unsqueeze(1) >> torch.arange(SIZE) & 1).bool()
        return words(rows.view(len(columns), -1))

    def _draw_swimmers(self, channel: str) -> Tensor:
        """Rows (2048, 25) by the columns on the way, as bits, to the left, and then to the right."""
        right = torch.arange(1 << SIZE)
        left = ((right.unsqueeze(1) >> torch.arange(SIZE) & 1) << torch.arange(SIZE - 1, -1, -1)).sum(1)
        swimmers, trail = torch.cat((left, right)), torch.cat((left << 1, right >> 1))
        return self._draw_cells(channel, swimmers) | self._draw_cells("trail", trail)

    def _draw_gauges(self) -> Tensor:
        """Rows (77, 25) by 7 times the cells of oxygen and the divers on board."""
        oxygen, crew = torch.arange(SIZE + 1).repeat_interleave(CREW + 1), torch.arange(CREW + 1).repeat(SIZE + 1)
        divers = (1 << 9) - (1 << 9 - crew)  # to the left of the last column
        return self._draw_cells("oxygen_guage", (1 << oxygen) - 1) | self._draw_cells("diver_guage", divers)
