"""DoorKey: find the key, unlock the door, reach the goal behind it."""

from __future__ import annotations

from typing import Any

import torch

from rltrain.envs.grid.chance import below, but, uniform
from rltrain.envs.grid.minigrid import MiniGrid, MiniGridState
from rltrain.envs.grid.things import GOAL, WALL, Colour, Kind

KEY = 8 * Kind.KEY + Colour.YELLOW
DOOR = 8 * Kind.LOCKED_DOOR + Colour.YELLOW


class DoorKey(MiniGrid[MiniGridState]):
    """MiniGrid's DoorKey: take the key, unlock the door with it, and go to the goal in the room behind.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward, 3 takes what is ahead, 4 puts it down there, 5 opens, closes or
        unlocks the door ahead, 6 does nothing.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, else 0.
    Episode end: the goal is reached.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/doorkey.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 10 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 5, ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 640

    def __init__(self, *, size: int = 8, max_steps: int | None = None, view: str = "image", **base: Any) -> None:
        self.size = self.whole("size", size, at_least=5)
        super().__init__(size, size, max_steps=10 * size**2 if max_steps is None else max_steps, view=view, **base)
        self._room[size * (size - 1) - 2] = GOAL
        self._column = torch.arange(size * size + 1, device=self.device) % size

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """A wall across, somewhere in it the locked door; the agent and the key to the left of it."""
        wall, door, place, key, direction = uniform(n, 5, rng, self.device)
        inside = self.size - 2
        wall = below(wall, self.size - 4) + 2  # its column
        door = (below(door, self.size - 3) + 1) * self.size + wall
        place = below(place, (wall - 1) * inside)
        key = but(below(key, (wall - 1) * inside - 1), place)
        position, key = ((k // (wall - 1) + 1) * self.size + k % (wall - 1) + 1 for k in (place, key))

        cells = self._room.masked_fill(self._column == wall.unsqueeze(1), WALL)
        cells = cells.scatter(1, door.unsqueeze(1), DOOR).scatter(1, key.unsqueeze(1), KEY)
        return self.start(cells, position, below(direction, 4))
