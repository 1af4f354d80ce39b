"""Unlock: take the key and open the door with it."""

from __future__ import annotations

from typing import Any

import torch

from rltrain.envs.grid.chance import below, choose, uniform
from rltrain.envs.grid.minigrid import Event, MiniGrid, MiniGridState
from rltrain.envs.grid.things import WALL, Kind


class Unlock(MiniGrid[MiniGridState]):
    """MiniGrid's Unlock: take the key that lies in the room and open the locked door with it.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward, 3 takes what is ahead, 4 puts it down there, 5 unlocks the door
        ahead, 6 does nothing.
    Reward: 1 - 0.9 t / max_steps for opening the door in step t, else 0.
    Episode end: the door is open.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/unlock.py``. Its mission text, the same in every episode, is left out.

    Args:
        room_size: Width and height of each of the two rooms with the walls, cells.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 8 room_size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``room_size`` is below 4, ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 288
    success = Event.UNLOCKED

    def __init__(self, *, room_size: int = 6, max_steps: int | None = None, view: str = "image", **base: Any) -> None:
        self.room_size = self.whole("room_size", room_size, at_least=4)
        width = 2 * room_size - 1
        limit = 8 * room_size**2 if max_steps is None else max_steps
        super().__init__(width, room_size, max_steps=limit, view=view, **base)
        self._room[room_size - 1 : -1 : width] = WALL
        inside = torch.arange(1, room_size - 1, device=self.device)
        self._floor = (inside.unsqueeze(1) * width + inside).view(-1)  # the left room's cells

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """Key and agent in the left room, the agent facing neither the key nor the door."""
        door, key, colour, start = uniform(n, 4, rng, self.device)
        inside = self.room_size - 2
        door = (below(door, inside) + 1) * self.width + self.room_size - 1
        key = self._floor.index_select(0, below(key, inside**2))
        colour = below(colour, 6).to(torch.uint8).unsqueeze(1)
        door, key = door.unsqueeze(1), key.unsqueeze(1)
        cells = self._room.expand(n, -1).scatter(1, door, 8 * Kind.LOCKED_DOOR + colour)
        cells = cells.scatter(1, key, 8 * Kind.KEY + colour)

        place, ahead = self.ways(self._floor)
        start = choose((place != key) & (ahead != key) & (ahead != door), start)
        return self.start(cells, place.index_select(0, start), start & 3)
