"""Memory: see an object, walk down a hallway, and choose the side with an object of the same kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rltrain.envs.grid.chance import below, uniform
from rltrain.envs.grid.minigrid import Action, MiniGrid, MiniGridState
from rltrain.envs.grid.things import EMPTY, WALL, Colour, Kind

KEY = 8 * Kind.KEY + Colour.GREEN
BALL = 8 * Kind.BALL + Colour.GREEN
PICKUP, TOGGLE = Action.PICKUP.value, Action.TOGGLE.value  # as numbers: Dynamo finds no tensor equal to a member


@dataclass
class MemoryState(MiniGridState):
    """A world, and where the hallway's two ends are."""

    right_end: Tensor  # (N,) the cell next to the object that matches
    wrong_end: Tensor  # (N,) the cell next to the other one


class Memory(MiniGrid[MemoryState]):
    """MiniGrid's Memory: go to the end of the hallway where the object is of the kind seen at the beginning.

    Observation: ``image`` (N, 7, 7, 3), the cells before the agent as type, colour and state in MiniGrid's numbers,
        and ``direction`` (N,): 0 right, 1 down, 2 left, 3 up.
    Action: 0 turns left, 1 right, 2 goes forward; 3 to 6 have nothing to act on here: objects stay where they are.
    Reward: 1 - 0.9 t / max_steps for reaching the right end in step t, else 0.
    Episode end: either end is reached.
    Source: Chevalier-Boisvert et al., "Minigrid & Miniworld", 2023, arXiv:2306.13831; minigrid 3.2,
        ``envs/memory.py``. Its mission text, the same in every episode, is left out.

    Args:
        size: Width and height with the walls, cells; odd.
        random_length: Whether the hallway's length is drawn for every episode, rather than as long as there is room.
        max_steps: Steps in which the reward falls to 0.1, and the time limit; 5 size^2 if None.
        view: ``"image"``, or ``"categories"``: the same numbers (N, 147) as categories, which networks take one-hot.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``size`` is below 7 or even, ``max_steps`` below 1, or ``view`` not known.
    """

    max_episode_steps = 845
    state_class = MemoryState

    def __init__(
        self,
        *,
        size: int = 13,
        random_length: bool = False,
        max_steps: int | None = None,
        view: str = "image",
        **base: Any,
    ) -> None:
        self.size = self.odd("size", size, at_least=7)
        self.random_length = self.choice("random_length", random_length, (False, True))
        super().__init__(size, size, max_steps=5 * size**2 if max_steps is None else max_steps, view=view, **base)
        self.middle = size // 2
        self._ends = range(4 if random_length else size - 3, size - 2)
        self._rooms = torch.stack([self._walls(end) for end in self._ends])  # one world for each length

    def _walls(self, end: int) -> Tensor:
        """(C,): the start room, and the hallway to column ``end``, where it branches up and down."""
        cells, middle = self._room.clone(), self.middle
        world = cells[:-1].view(self.size, self.size)
        world[middle - 2, 1:5] = world[middle + 2, 1:5] = WALL
        world[middle - 1, 4 : max(end, 5)] = world[middle + 1, 4 : max(end, 5)] = WALL
        world[:, end] = world[:, end + 2] = WALL
        world[middle, end] = EMPTY
        return cells

    def reset(self, n: int, rng: torch.Generator | None) -> MemoryState:
        """The agent anywhere between the object and the branch, looking down the hallway."""
        length, place, cue, upper = uniform(n, 4, rng, self.device)
        length = below(length, len(self._ends))
        end = length + self._ends[0]
        position = self.middle * self.size + 1 + below(place, end)
        cue_is_ball, upper_is_ball = cue < 0.5, upper < 0.5

        branch = self.middle * self.size + end + 1
        where = torch.stack(
            (torch.full_like(end, (self.middle - 1) * self.size + 1), branch - 2 * self.size, branch + 2 * self.size), 1
        )
        is_ball = torch.stack((cue_is_ball, upper_is_ball, ~upper_is_ball), 1)
        what = (KEY + (BALL - KEY) * is_ball).to(torch.uint8)
        cells = self._rooms.index_select(0, length).scatter(1, where, what)
        aside = torch.where(cue_is_ball == upper_is_ball, -self.size, self.size)
        return self.start(cells, position, right_end=branch + aside, wrong_end=branch - aside)

    def step(
        self, state: MemoryState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[MemoryState, Tensor, Tensor]:
        """MiniGrid's rules, but nothing can be taken."""
        after, _, _ = super().step(state, action.masked_fill(action == PICKUP, TOGGLE), rng)
        is_success = after.position == state.right_end
        reward = self._reward(after.step_count, is_success)
        return replace(after, is_success=is_success), reward, is_success | (after.position == state.wrong_end)
