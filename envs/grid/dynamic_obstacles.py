"""DynamicObstacles: cross a room to the goal without running into moving balls."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.envs.grid.chance import below
from rltrain.envs.grid.minigrid import Action, MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, GOAL, Colour, Kind
from rltrain.tree import view_bools

BALL = 8 * Kind.BALL + Colour.BLUE
LUCK = 840
BYTES_TO_BITS = 0x0102040810204080  # eight bytes of 0 or 1, times this: their bits side by side in the highest byte


@dataclass
class DynamicObstaclesState(MiniGridState):
    """A world, and where the balls are."""

    obstacles: Tensor  # (N, K) the balls' cells, in the order in which they move


class DynamicObstacles(MiniGrid[DynamicObstaclesState]):
    """MiniGrid's Dynamic-Obstacles: reach the goal in the far corner among balls that move at random.

    In every step each ball first moves to one of the eight cells about it, if one is free; then the agent acts.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward.
    Reward: 1 - 0.9 t / max_steps for reaching the goal in step t, -1 for going forward where there was a ball or a
        wall before the balls moved, else 0.
    Episode end: the goal is reached, or the agent went for a ball or a wall.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/dynamicobstacles.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells.
        n_obstacles: Number of balls.
        random_start: Whether the agent starts anywhere, looking anywhere, rather than in the near corner.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 4 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 5, ``n_obstacles`` not from 1 to size / 2 + 1, ``max_steps`` below 1, or
            ``view`` not known.
    """

    max_episode_steps = 256
    see_through_walls = True
    state_class = DynamicObstaclesState

    def __init__(
        self,
        *,
        size: int = 8,
        n_obstacles: int = 4,
        random_start: bool = False,
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.size = self.whole("size", size, at_least=5)
        self.n_obstacles = self.whole("n_obstacles", n_obstacles, at_least=1, at_most=size // 2 + 1)
        self.random_start = self.choice("random_start", random_start, (False, True))
        super().__init__(size, size, max_steps=4 * size**2 if max_steps is None else max_steps, view=view, **base)
        self.action_space = spaces.Discrete(3)
        self._room[size * (size - 1) - 2] = GOAL
        cells = [y * size + x for y in range(1, size - 1) for x in range(1, size - 1)]
        # Where a ball can start, or the agent: anywhere but on the goal, and in the near corner if the agent is there.
        self._free = torch.tensor(cells[(0 if random_start else 1) : -1], device=self.device)
        about = [y * size + x for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y]
        self._about = torch.tensor(about, device=self.device)
        self._steps = _steps(about).to(self.device)

    def reset(self, n: int, rng: torch.Generator | None) -> DynamicObstaclesState:
        """The balls in free cells; the agent in the near corner looking right, or in a free cell looking anywhere."""
        draws = torch.rand(n, len(self._free) + self.random_start, generator=rng, device=self.device)
        k = self.n_obstacles + self.random_start
        cells = self._free.index_select(0, draws[:, : len(self._free)].topk(k).indices.view(-1)).view(n, k)
        obstacles, position = cells[:, : self.n_obstacles], torch.full((n,), self.size + 1, device=self.device)
        direction = torch.zeros_like(position)
        if self.random_start:
            position, direction = cells[:, -1], below(draws[:, -1], 4)
        room = self._room.expand(n, -1).scatter(1, obstacles, BALL)
        return self.start(room, position, direction, obstacles=obstacles)

    def step(
        self, state: DynamicObstaclesState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[DynamicObstaclesState, Tensor, Tensor]:
        """The balls move, then the agent, by MiniGrid's rules."""
        ahead = self.ahead(state)
        blocked = (ahead != EMPTY) & (ahead != GOAL)
        luck = torch.randint(LUCK, state.obstacles.shape, generator=rng, device=self.device)
        after, reward, terminated = super().step(self.move(state, luck), action, rng)
        crashed = blocked & (action == Action.FORWARD.value)  # Dynamo finds no tensor equal to a member
        return after, reward - crashed.to(reward.dtype), terminated | crashed

    def move(self, state: DynamicObstaclesState, luck: Tensor) -> DynamicObstaclesState:
        """Each ball in turn to one of the free cells about it, by its number in ``luck`` (N, K), below 840."""
        # Cells of all worlds under one number: a flat index is faster than one in every row, as ^ is than ==.
        world = torch.arange(len(state.cells), device=self.device).unsqueeze(1) * state.cells.shape[1]
        free = (state.cells ^ EMPTY).logical_not().view(-1)
        free.scatter_(0, state.position + world.squeeze(1), False)
        before = state.obstacles + world
        places = []
        for old, lot in zip(before.unbind(1), luck.unbind(1), strict=True):
            about = (old.unsqueeze(1) + self._about).view(-1)
            bytes_ = view_bools(free.index_select(0, about), torch.int64)  # (N,)
            bits = (bytes_ * BYTES_TO_BITS) >> 56 & 255
            new = old + self._steps.index_select(0, bits * LUCK + lot)
            free.scatter_(0, old, True).scatter_(0, new, False)
            places.append(new)
        after = torch.stack(places, 1)
        cells = state.cells.clone()
        cells.view(-1).scatter_(0, before.view(-1), EMPTY).scatter_(0, after.view(-1), BALL)
        return replace(state, cells=cells, obstacles=after - world)


def _steps(about: list[int]) -> Tensor:
    """The way to one of the free cells by ``free * LUCK + luck``, ``free`` being a bit for each cell about a ball.

    0 if none is free. Each of the free ones has the same share of luck: 840 can be divided by all numbers up to 8.
    """
    table = torch.zeros(256, LUCK, dtype=torch.int16)
    for bits in range(1, 256):
        ways = [way for i, way in enumerate(about) if bits >> i & 1]
        table[bits] = torch.tensor(ways).repeat_interleave(LUCK // len(ways))
    return table.view(-1)
