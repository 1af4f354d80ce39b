"""MiniGrid's world: walls, doors, keys, balls, boxes, lava and goals, and an agent with a partial view."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, IntFlag
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.envs.grid.drawing import draw_world
from rltrain.envs.grid.things import EMPTY, WALL, Kind
from rltrain.envs.grid.view import SIZE, View
from rltrain.errors import ConfigError


class Action(IntEnum):
    """MiniGrid's actions."""

    LEFT = 0
    RIGHT = 1
    FORWARD = 2
    PICKUP = 3
    DROP = 4
    TOGGLE = 5
    DONE = 6


class Event(IntFlag):
    """What happened in a step."""

    MOVED = 1
    GOAL = 2
    LAVA = 4
    UNLOCKED = 8
    TOOK_BALL = 16


@dataclass
class MiniGridState:
    """A world and the agent in it. Cell (x, y) has the number y * width + x; y points down."""

    cells: Tensor  # (N, width * height + 1) uint8, the cells' codes, and last what the agent carries
    position: Tensor  # (N,) the agent's cell
    direction: Tensor  # (N,) where it looks: 0 right, 1 down, 2 left, 3 up
    step_count: Tensor  # (N,) steps since the episode began, which the reward depends on
    is_success: Tensor  # (N,) bool, whether the last step reached the aim


S = TypeVar("S", bound=MiniGridState)


class MiniGrid(TensorEnv[S]):
    """The rules and the view that all tasks share. A task draws the world in ``reset`` and defines its goal.

    Attributes:
        state_class: The class of its states.
        success: Events that end the episode with a reward.
        failure: Events that end it without.
        see_through_walls: Whether nothing hides what is behind it.
    """

    render_fps = 10
    reset_interval = 16

    state_class: ClassVar[type[Any]] = MiniGridState
    success: ClassVar[Event] = Event.GOAL
    failure: ClassVar[Event] = Event.LAVA
    see_through_walls: ClassVar[bool] = False

    def __init__(self, width: int, height: int, *, max_steps: int, view: str, **base: Any) -> None:
        super().__init__(**base)
        self.width, self.height = width, height
        self.max_steps = self.whole("max_steps", max_steps, at_least=1)
        self.max_episode_steps = self.max_steps  # type: ignore[misc]  # that of this size
        self.view = self.choice("view", view, ("image", "categories"))
        image: spaces.Space = spaces.Box(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        if self.view == "categories":
            image = spaces.MultiDiscrete(np.tile([11, 6, 3], SIZE * SIZE), dtype=np.uint8)
        self.observation_space = spaces.Dict({"direction": spaces.Discrete(4), "image": image})
        self.action_space: spaces.Discrete = spaces.Discrete(len(Action))

        self._view = View(width, height, through_walls=self.see_through_walls, device=self.device)
        self._rules = _rules().to(self.device)
        self._turn = torch.tensor([3, 1, 0, 0, 0, 0, 0], device=self.device)
        self._forward = torch.tensor([1, width, -1, -width], device=self.device)
        room = torch.full((height, width), EMPTY, dtype=torch.uint8)
        room[[0, -1]] = room[:, [0, -1]] = WALL
        self._room = torch.cat((room.view(-1), torch.tensor([EMPTY], dtype=torch.uint8))).to(self.device)

    def odd(self, name: str, value: int, *, at_least: int) -> int:
        """A validated constructor argument that is an odd number."""
        if self.whole(name, value, at_least=at_least) % 2 == 0:
            raise ConfigError(f"{type(self).__name__}: {name}={value!r} is even.", "Give an odd number.")
        return value

    def start(self, cells: Tensor, position: Tensor, direction: Tensor | None = None, **more: Tensor) -> S:
        """A state at the beginning of an episode; the agent looks to the right unless a direction is given."""
        return self.state_class(
            cells=cells,
            position=position,
            direction=torch.zeros_like(position) if direction is None else direction,
            step_count=torch.zeros_like(position),
            is_success=torch.zeros_like(position, dtype=torch.bool),
            **more,
        )

    def ways(self, floor: Tensor) -> tuple[Tensor, Tensor]:
        """All ways to stand in one of the cells (K,): (4 K,) each, the cell and the one ahead, the direction last."""
        ahead = floor.unsqueeze(1) + self._forward
        return floor.repeat_interleave(4), ahead.view(-1)

    def ahead(self, state: S) -> Tensor:
        """(N,) uint8: the code of the cell ahead of the agent."""
        ahead = state.position + self._forward.index_select(0, state.direction)
        return state.cells.gather(1, ahead.unsqueeze(1)).squeeze(1)

    def step(self, state: S, action: Tensor, rng: torch.Generator | None) -> tuple[S, Tensor, Tensor]:
        """MiniGrid's rules, looked up by the action, the cell ahead and what is carried."""
        ahead = state.position + self._forward.index_select(0, state.direction)
        target = ahead.unsqueeze(1)
        case = (((action.unsqueeze(1) << 7) | state.cells.gather(1, target)) << 7) | state.cells[:, -1:]
        outcome = self._rules.index_select(0, case.view(-1)).view(torch.uint8).view(-1, 4)
        cells = state.cells.scatter(1, target, outcome[:, :1])
        cells[:, -1:] = outcome[:, 1:2]
        event = outcome[:, 2]

        step_count = state.step_count + 1
        is_success = (event & self.success) != 0
        after = replace(
            state,
            cells=cells,
            position=torch.where((event & Event.MOVED) != 0, ahead, state.position),
            direction=(state.direction + self._turn.index_select(0, action)) & 3,
            step_count=step_count,
            is_success=is_success,
        )
        return after, self._reward(step_count, is_success), (event & (self.success | self.failure)) != 0

    def _reward(self, step_count: Tensor, is_success: Tensor) -> Tensor:
        """1 - 0.9 t / max_steps where the aim is reached, else 0."""
        return (1 - step_count.to(self.dtype) * (0.9 / self.max_steps)) * is_success

    def observe(self, state: S) -> dict[str, Tensor]:
        """MiniGrid's view (N, 7, 7, 3), or (N, 147) as categories, and the direction (N,)."""
        image = self._view.image(state.cells, state.position, state.direction)
        return {"direction": state.direction, "image": image.view(-1, 147) if self.view == "categories" else image}

    def info(self, state: S) -> dict[str, Tensor]:
        """Whether the aim was reached."""
        return {"is_success": state.is_success}

    def render(self, state: S, index: int = 0) -> Tensor:
        """The world from above, what the agent sees in a lighter shade, uint8."""
        image = self._view.image(*(part[index : index + 1] for part in (state.cells, state.position, state.direction)))
        seen = image[0, :, :, 0].flatten().bool()
        place, direction = int(state.position[index]), int(state.direction[index])
        sources = self._view.sources[4 * place + direction].view(SIZE, 8)[:, :SIZE].flatten()
        return draw_world(
            codes=state.cells[index].tolist(),
            width=self.width,
            height=self.height,
            place=place,
            direction=direction,
            seen={place, *sources[seen].tolist()},
        )


def _rules() -> Tensor:
    """What an action does: four bytes, the cell ahead afterwards, what is carried afterwards, the events, nothing.

    By ``(action * 128 + the cell ahead) * 128 + what is carried``.
    """
    action = torch.arange(len(Action)).view(-1, 1, 1)
    ahead, carried = torch.arange(128).view(-1, 1), torch.arange(128)
    kind, colour = ahead >> 3, ahead & 7

    goes = (action == Action.FORWARD) & (
        (kind == Kind.EMPTY) | (kind == Kind.GOAL) | (kind == Kind.LAVA) | (kind == Kind.OPEN_DOOR)
    )
    portable = (kind == Kind.KEY) | (kind == Kind.BALL) | (kind == Kind.BOX)
    takes = (action == Action.PICKUP) & portable & (carried == EMPTY)
    drops = (action == Action.DROP) & (ahead == EMPTY) & (carried != EMPTY)
    toggles = action == Action.TOGGLE
    unlocks = toggles & (kind == Kind.LOCKED_DOOR) & (carried == 8 * Kind.KEY + colour)
    opens = toggles & (kind == Kind.CLOSED_DOOR) | unlocks
    closes = toggles & (kind == Kind.OPEN_DOOR)
    breaks = toggles & (kind == Kind.BOX)

    ahead_after = torch.where(takes | breaks, EMPTY, torch.where(drops, carried, ahead))
    ahead_after = torch.where(opens, 8 * Kind.OPEN_DOOR + colour, ahead_after)
    ahead_after = torch.where(closes, 8 * Kind.CLOSED_DOOR + colour, ahead_after)
    carried_after = torch.where(takes, ahead, torch.where(drops, EMPTY, carried))
    events = goes * Event.MOVED + (goes & (kind == Kind.GOAL)) * Event.GOAL + (goes & (kind == Kind.LAVA)) * Event.LAVA
    events = events + unlocks * Event.UNLOCKED + (takes & (kind == Kind.BALL)) * Event.TOOK_BALL
    table = torch.stack(torch.broadcast_tensors(ahead_after, carried_after, events, torch.tensor(0)), -1)
    return table.to(torch.uint8).view(-1, 4).view(torch.int32).view(-1)
