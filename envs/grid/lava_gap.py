"""LavaGap: pass through the one gap in a strip of lava."""

from __future__ import annotations

from typing import Any

import torch

from rltrain.envs.grid.chance import below, uniform
from rltrain.envs.grid.minigrid import MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, GOAL, LAVA, WALL


class LavaGap(MiniGrid[MiniGridState]):
    """MiniGrid's LavaGap: reach the goal in the far corner through the gap in a strip of lava.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward; 3 to 6 have nothing to act on here.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, else 0.
    Episode end: the goal is reached, or the agent steps into the lava.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/lavagap.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells.
        obstacle: Material of the strip, ``"lava"`` or ``"wall"``.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 4 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 5, ``max_steps`` below 1, or ``obstacle`` or ``view`` not known.
    """

    max_episode_steps = 196

    def __init__(
        self,
        *,
        size: int = 7,
        obstacle: str = "lava",
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.size = self.whole("size", size, at_least=5)
        self.obstacle = self.choice("obstacle", obstacle, ("lava", "wall"))
        super().__init__(size, size, max_steps=4 * size**2 if max_steps is None else max_steps, view=view, **base)
        self._room[size * (size - 1) - 2] = GOAL
        self._column = torch.where(self._room == EMPTY, torch.arange(size * size + 1, device=self.device) % size, 0)
        self._strip = LAVA if obstacle == "lava" else WALL

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """The agent in the near corner looking right; the strip from wall to wall, the gap anywhere in it."""
        column, gap = uniform(n, 2, rng, self.device)
        column = below(column, self.size - 4) + 2
        gap = (below(gap, self.size - 2) + 1) * self.size + column
        cells = self._room.masked_fill(self._column == column.unsqueeze(1), self._strip)
        cells = cells.scatter(1, gap.unsqueeze(1), EMPTY)
        return self.start(cells, torch.full_like(gap, self.size + 1))
