"""KeyCorridor: search the rooms along a corridor for the key to the locked room, and take the ball in it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rltrain.envs.grid.chance import below, choose
from rltrain.envs.grid.minigrid import Event, MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, WALL, Kind


class KeyCorridor(MiniGrid[MiniGridState]):
    """MiniGrid's KeyCorridor: find the key, unlock the room with the ball, and take the ball.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward, 3 takes what is ahead, 4 puts it down there, 5 opens, closes or
        unlocks the door ahead, 6 does nothing.
    Reward: 1 - 0.9 t / max_steps for taking the ball in step t, else 0.
    Episode end: the ball is taken.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/keycorridor.py``, ``core/roomgrid.py``. Its mission text names the colour of the ball, the only one.

    Args:
        room_size: Width and height of a room with the walls, cells.
        num_rows: Rooms on each side of the corridor.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 30 room_size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``room_size`` is below 3, ``num_rows`` or ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 270
    success = Event.TOOK_BALL

    def __init__(
        self,
        *,
        room_size: int = 3,
        num_rows: int = 3,
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.room_size = self.whole("room_size", room_size, at_least=3)
        self.num_rows = self.whole("num_rows", num_rows, at_least=1)
        pitch = room_size - 1
        limit = 30 * room_size**2 if max_steps is None else max_steps
        super().__init__(3 * pitch + 1, num_rows * pitch + 1, max_steps=limit, view=view, **base)
        world = self._room[:-1].view(self.height, self.width)
        world[::pitch] = world[:, ::pitch] = WALL
        world[1:-1, pitch + 1 : 2 * pitch] = EMPTY  # the corridor

        middle = num_rows // 2 * pitch  # where the agent's part of the corridor begins
        row = torch.arange(max(1, middle), min(self.height - 1, middle + pitch + 1), device=self.device)
        column = torch.arange(pitch + 1, 2 * pitch, device=self.device)
        self._starts = (row.unsqueeze(1) * self.width + column).view(-1)
        # The places for doors, left and right: from each room to the corridor, then from each room to the next. Each
        # is at the beginning of its wall, along which the door is moved.
        self._doors = torch.tensor(
            [
                [j * pitch * self.width + x for j in range(num_rows)]
                + [(j + 1) * pitch * self.width + room_x for j in range(num_rows - 1)]
                for x, room_x in ((pitch, 0), (2 * pitch, 2 * pitch))
            ],
            device=self.device,
        )
        self._along = torch.tensor([self.width] * num_rows + [1] * (num_rows - 1), device=self.device)
        # The rows of the rooms left and right, of which a right one is locked.
        self._lockable = torch.tensor([[-1] * num_rows, [*range(num_rows)]], device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """The ball in a locked room on the right, the key in a room on the left, the agent in the corridor."""
        rows, pitch, inside, doors = self.num_rows, self.room_size - 1, self.room_size - 2, 2 * self.num_rows - 1
        draws = torch.rand(n, 7 + 6 * doors, generator=rng, device=self.device)
        seven, turn, along, colour = draws.split((7, 2 * doors, 2 * doors, 2 * doors), 1)
        lock_row, lock_colour, ball, ball_colour, key_row, key, start = seven.unsqueeze(2).unbind(1)
        lock_row, key_row = below(lock_row, rows), below(key_row, rows)
        lock_colour, ball_colour, colour = (below(u, 6).to(torch.uint8) for u in (lock_colour, ball_colour, colour))

        locked = self._lockable == lock_row.unsqueeze(2)  # (n, 2, rows)
        door = self._doors + self._along * (below(along, inside).view(n, 2, doors) + 1)
        made = _doors_made(turn.view(n, 2, doors), locked).view(n, -1)
        lock = door[:, 1].gather(1, lock_row)
        ball, key = (below(u, inside**2) for u in (ball, key))
        ball, key = ((k // inside + 1) * self.width + k % inside + 1 for k in (ball, key))  # in the first room
        ball = ball + lock_row * pitch * self.width + 2 * pitch
        key = key + key_row * pitch * self.width

        doors_or_walls = torch.where(made, 8 * Kind.CLOSED_DOOR + colour, WALL)
        cells = self._room.expand(n, -1).scatter(1, door.view(n, -1), doors_or_walls)
        where = torch.cat((lock, ball, key), 1)
        things = (8 * Kind.LOCKED_DOOR + lock_colour, 8 * Kind.BALL + ball_colour, 8 * Kind.KEY + lock_colour)
        cells = cells.scatter(1, where, torch.cat(things, 1))
        place, ahead = self.ways(self._starts)
        start = choose(ahead != lock, start.squeeze(1))
        return self.start(cells, place.index_select(0, start), start & 3)


def _doors_made(turn: Tensor, locked: Tensor) -> Tensor:
    """Which doors there are besides the locked one: (N, 2, 2 rows - 1) bool.

    MiniGrid makes doors in random order until every room can be reached: those whose turn comes no later than that of
    the last one needed. None leads to the locked room. The last turn on the best way to a room comes from its own
    door to the corridor, or from its neighbour's way and the door between them.

    Args:
        turn: (N, 2, 2 rows - 1) when a door would be made: to the corridor, then from each room to the next.
        locked: (N, 2, rows) the locked room.
    """
    rows = locked.shape[2]
    to_corridor, to_next = turn.split((rows, rows - 1), 2)
    to_corridor = to_corridor.masked_fill(locked, math.inf)
    to_next = to_next.masked_fill(locked[..., 1:] | locked[..., :-1], math.inf)
    reached = to_corridor
    for _ in range(rows - 1):
        from_above = pad(torch.maximum(reached[..., :-1], to_next), (1, 0), value=math.inf)
        from_below = pad(torch.maximum(reached[..., 1:], to_next), (0, 1), value=math.inf)
        reached = torch.minimum(reached, torch.minimum(from_above, from_below))
    last = reached.masked_fill(locked, 0).amax((1, 2), keepdim=True)
    return torch.cat((to_corridor, to_next), 2) <= last
