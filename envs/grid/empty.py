"""Empty: cross a room to the goal in its corner."""

from __future__ import annotations

from typing import Any

import torch

from rltrain.envs.grid.chance import below, uniform
from rltrain.envs.grid.minigrid import MiniGrid, MiniGridState
from rltrain.envs.grid.things import GOAL


class Empty(MiniGrid[MiniGridState]):
    """MiniGrid's Empty: cross a square room to the goal in its far corner.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward; 3 to 6 have nothing to act on here.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, else 0.
    Episode end: the goal is reached.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/empty.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells.
        random_start: Whether the agent starts anywhere, looking anywhere, rather than in the near corner.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 4 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 4, ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 256
    see_through_walls = True

    def __init__(
        self,
        *,
        size: int = 8,
        random_start: bool = False,
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.size = self.whole("size", size, at_least=4)
        self.random_start = self.choice("random_start", random_start, (False, True))
        super().__init__(size, size, max_steps=4 * size**2 if max_steps is None else max_steps, view=view, **base)
        self._room[size * (size - 1) - 2] = GOAL

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """In the near corner looking right, or in any cell but the goal's looking anywhere."""
        cells = self._room.expand(n, -1)
        if not self.random_start:
            return self.start(cells, torch.full((n,), self.size + 1, device=self.device))
        place, direction = uniform(n, 2, rng, self.device)
        inside = self.size - 2
        place = below(place, inside**2 - 1)  # the goal's is the last
        position = (place // inside + 1) * self.size + place % inside + 1
        return self.start(cells, position, below(direction, 4))
