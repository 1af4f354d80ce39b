"""FourRooms: find the goal in one of four rooms."""

from __future__ import annotations

from typing import Any

import torch

from rltrain.envs.grid.chance import below, but, uniform
from rltrain.envs.grid.minigrid import MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, GOAL, WALL


class FourRooms(MiniGrid[MiniGridState]):
    """MiniGrid's FourRooms: find the goal, anywhere in four rooms joined by narrow gaps.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward; 3 to 6 have nothing to act on here.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, else 0.
    Episode end: the goal is reached.
    Source: Sutton, Precup and Singh, "Between MDPs and semi-MDPs", 1999; minigrid 3.2, ``envs/fourrooms.py``. Its
        mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells; odd.
        max_steps: Steps in which the reward falls to 0.1, and the time limit.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 7 or even, ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 100

    def __init__(self, *, size: int = 19, max_steps: int = 100, view: str = "image", **base: Any) -> None:
        self.size = self.odd("size", size, at_least=7)
        super().__init__(size, size, max_steps=max_steps, view=view, **base)
        self.middle = size // 2
        world = self._room[:-1].view(size, size)
        world[self.middle] = world[:, self.middle] = WALL
        lines = [*range(1, self.middle), *range(self.middle + 1, size - 1)]
        self._floor = torch.tensor([y * size + x for y in lines for x in lines], device=self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> MiniGridState:
        """A gap in each of the four walls between two rooms; agent and goal anywhere, the gaps included."""
        *gaps, place, goal, direction = uniform(n, 7, rng, self.device)
        up, down, left, right = (below(gap, self.middle - 1) + 1 for gap in gaps)
        far = self.middle
        open_cells = torch.stack(
            (
                up * self.size + far,
                (down + far) * self.size + far,
                far * self.size + left,
                far * self.size + right + far,
            ),
            dim=1,
        )
        floor = torch.cat((self._floor.expand(n, -1), open_cells), dim=1)
        place = below(place, floor.shape[1])
        goal = but(below(goal, floor.shape[1] - 1), place)
        position, goal = floor.gather(1, torch.stack((place, goal), dim=1)).unbind(1)

        cells = self._room.expand(n, -1).scatter(1, open_cells, EMPTY).scatter(1, goal.unsqueeze(1), GOAL)
        return self.start(cells, position, below(direction, 4))
