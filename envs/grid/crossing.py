"""Crossing: cross rivers of lava, or walls, that each have one opening."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad

from rltrain.envs.grid.chance import below
from rltrain.envs.grid.minigrid import MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, GOAL, LAVA, WALL


class Crossing(MiniGrid[MiniGridState]):
    """MiniGrid's SimpleCrossing and LavaCrossing: reach the goal across barriers with one opening each.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward; 3 to 6 have nothing to act on here.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, else 0.
    Episode end: the goal is reached, or the agent steps into lava.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/crossing.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells; odd.
        num_crossings: Number of barriers, from wall to wall, upright or level.
        obstacle: Material of the barriers, ``"lava"`` or ``"wall"``.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 4 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 5 or even, ``num_crossings`` not from 1 to size - 3, ``max_steps`` below 1, or
            ``obstacle`` or ``view`` not known.
    """

    max_episode_steps = 324

    def __init__(
        self,
        *,
        size: int = 9,
        num_crossings: int = 1,
        obstacle: str = "lava",
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.size = self.odd("size", size, at_least=5)
        self.num_crossings = self.whole("num_crossings", num_crossings, at_least=1, at_most=size - 3)
        self.obstacle = self.choice("obstacle", obstacle, ("lava", "wall"))
        super().__init__(size, size, max_steps=4 * size**2 if max_steps is None else max_steps, view=view, **base)
        self._room[size * (size - 1) - 2] = GOAL
        # The barriers: upright ones from the left, then level ones from above, and last, for other cells, none.
        half, floor = (size - 3) // 2, range(1, size - 1)
        cells = [(i % size, i // size) for i in range(size * size + 1)]
        inside = [x in floor and y in floor for x, y in cells]
        upright = [x // 2 - 1 if ok and x % 2 == 0 else 2 * half for ok, (x, y) in zip(inside, cells, strict=True)]
        level = [half + y // 2 - 1 if ok and y % 2 == 0 else 2 * half for ok, (x, y) in zip(inside, cells, strict=True)]
        self._upright, self._level = torch.tensor([upright, level], device=self.device)
        self._places = torch.arange(2, size - 2, 2, device=self.device)  # rows and columns a barrier may take
        self._barrier = LAVA if obstacle == "lava" else WALL

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """Any of the barriers, and a random way across them that openings are made along.

        The barriers divide the room into fields. The way leads from the first to the last, over an upright barrier
        or a level one at a time, in random order: each is opened somewhere between the two it crosses there.
        """
        size, k = self.size, self.num_crossings
        half = len(self._places)
        draws = torch.rand(n, 2 * half + 2 * k, generator=rng, device=self.device)
        among, turn, along = draws.split((2 * half, k, k), dim=1)
        chosen = torch.zeros(n, 2 * half + 1, dtype=torch.bool, device=self.device)
        chosen = chosen.scatter_(1, among.topk(k).indices, True)
        barred = chosen.gather(1, self._upright.expand(n, -1)) | chosen.gather(1, self._level.expand(n, -1))
        cells = self._room.masked_fill(barred, self._barrier)

        lines = torch.where(chosen[:, :-1].view(n, 2, half), self._places, size - 1).sort(-1).values
        xs, ys = pad(pad(lines, (1, 0)), (0, 1), value=size - 1).unbind(1)  # of upright and level ones, and outer walls
        i = j = torch.zeros(n, 1, dtype=torch.int64, device=self.device)  # the field, counted across and down
        left = chosen[:, :half].sum(1, keepdim=True)  # upright barriers not yet crossed
        openings = []
        for step in range(k):
            across = below(turn[:, step : step + 1], k - step) < left
            left = left - across.to(torch.int64)
            x0, x1, y0, y1 = xs.gather(1, i), xs.gather(1, i + 1), ys.gather(1, j), ys.gather(1, j + 1)
            at = along[:, step : step + 1]
            x = torch.where(across, x1, x0 + 1 + below(at, x1 - x0 - 1))
            y = torch.where(across, y0 + 1 + below(at, y1 - y0 - 1), y1)
            openings.append(y * size + x)
            i, j = i + across, j + ~across
        cells = cells.scatter(1, torch.cat(openings, 1), EMPTY)
        return self.start(cells, torch.full((n,), size + 1, device=self.device))
