"""FrozenLake: cross a frozen lake without falling into a hole; the ice is slippery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import GREY, RED, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.toy.figures import draw_flag, draw_person
from rltrain.envs.toy.tables import Outcome, Tables, walk, with_slips
from rltrain.errors import ConfigError

MAPS = {
    "4x4": ("SFFF", "FHFH", "FFFH", "HFFG"),
    "8x8": ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"),
}
ICE, SNOW, RIM, WATER, MEADOW = "#e3eef8", "#cfdfee", "#9fb9d1", "#24344c", "#d5ead9"
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # left, down, right, up; neighbours in this list are at right angles


@dataclass
class FrozenLakeState:
    """Where the walker is."""

    cell: Tensor  # (N,) int64, counted row by row from the top left


class FrozenLake(TensorEnv[FrozenLakeState]):
    """Gymnasium's FrozenLake-v1 and FrozenLake8x8-v1, with the same transition probabilities.

    Observation: (N,): the walker's cell, counted row by row from the top left.
    Action: 0 left, 1 down, 2 right, 3 up; a step off the board leads nowhere.
    Reward: ``reward_schedule``: by default 1 for the step onto the goal, otherwise 0.
    Episode end: on the goal or in a hole.
    Source: Gymnasium 1.4, ``envs/toy_text/frozen_lake.py``.
    Baseline: the optimal policy, by value iteration with discount 0.999.

    On slippery ice a step leads where it should with probability ``success_rate``, otherwise at a right angle to it, to
    either side alike.

    Args:
        map_name: ``"4x4"`` or ``"8x8"``.
        desc: A map of your own instead, a text for each row: S start, F frozen, H hole, G goal.
        is_slippery: Whether the ice is slippery.
        success_rate: Probability of moving in the chosen direction on slippery ice.
        reward_schedule: Rewards of a step onto the goal, into a hole and onto the ice.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is not known or out of range, or ``desc`` is not a map.
    """

    max_episode_steps = 100
    reward_threshold = 0.7
    render_fps = 4

    def __init__(
        self,
        *,
        map_name: str = "4x4",
        desc: Sequence[str] | None = None,
        is_slippery: bool = True,
        success_rate: float = 1 / 3,
        reward_schedule: Sequence[float] = (1.0, 0.0, 0.0),
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.map_name = self.choice("map_name", map_name, tuple(MAPS))
        self.lake = MAPS[map_name] if desc is None else checked_map(desc)
        self.is_slippery = self.choice("is_slippery", is_slippery, (True, False))
        self.success_rate = self.constant("success_rate", success_rate, at_least=0, at_most=1)
        self.reward_schedule = checked_rewards(self, reward_schedule)
        cells = "".join(self.lake)
        self.tables = Tables(
            self._outcomes,
            len(cells),
            len(MOVES),
            [cell for cell, letter in enumerate(cells) if letter == "S"],
            success_rate=self.success_rate if is_slippery else None,
            device=self.device,
            dtype=self.dtype,
        )
        self._is_goal = torch.tensor([letter == "G" for letter in cells], device=self.device)
        self.observation_space = spaces.Discrete(len(cells))
        self.action_space = spaces.Discrete(len(MOVES))

    def _outcomes(self, cell: int, action: int) -> list[Outcome]:
        cells, rows, columns = "".join(self.lake), len(self.lake), len(self.lake[0])
        directions = with_slips(action, self.is_slippery)
        if cells[cell] in "GH":
            return [(cell, 0.0, True) for _ in directions]
        reached = [walk(cell, MOVES[direction], rows, columns) for direction in directions]
        rewards = dict(zip("GHF", self.reward_schedule, strict=True))
        return [(cell, rewards.get(cells[cell], rewards["F"]), cells[cell] in "GH") for cell in reached]

    def reset(self, n: int, rng: torch.Generator | None) -> FrozenLakeState:
        """At the start; at one of them where the map has several."""
        return FrozenLakeState(self.tables.start(n, rng))

    def step(
        self, state: FrozenLakeState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[FrozenLakeState, Tensor, Tensor]:
        """One step on the ice."""
        cell, reward, terminated = self.tables.follow(state.cell, action, rng)
        return FrozenLakeState(cell), reward, terminated

    def observe(self, state: FrozenLakeState) -> Tensor:
        """The cell (N,)."""
        return state.cell

    def info(self, state: FrozenLakeState) -> dict[str, Tensor]:
        """Success is to be on the goal."""
        return {"is_success": self._is_goal[state.cell]}

    def baseline(self, state: FrozenLakeState) -> Tensor:
        """The best action (N,)."""
        return self.tables.best_actions[state.cell]

    def render(self, state: FrozenLakeState, index: int = 0) -> Tensor:
        """The lake from above: start, holes, goal and walker, about (500, 500, 3) uint8."""
        return draw_lake(self.lake, int(state.cell[index]))


def checked_map(desc: Sequence[str]) -> tuple[str, ...]:
    """The map, if it is one.

    Raises:
        ConfigError: It is not a rectangle of the letters S, F, H and G with a start.
    """
    is_list = isinstance(desc, Sequence) and not isinstance(desc, str)
    rows = tuple(desc) if is_list else ()
    if not rows or not all(
        isinstance(row, str) and len(row) == len(rows[0]) and set(row) <= set("SFHG") for row in rows
    ):
        raise ConfigError(
            f"FrozenLake: desc={desc!r} is no map.",
            "Give texts of equal length, one for each row, of the letters SFHG.",
        )
    if not any("S" in row for row in rows):
        raise ConfigError(f"FrozenLake: desc={desc!r} has no start.", "Mark it by an S.")
    return rows


def checked_rewards(env: TensorEnv[Any], rewards: Sequence[float]) -> tuple[float, float, float]:
    """A ``reward_schedule``, if it is one.

    Raises:
        ConfigError: It is not three numbers.
    """
    if isinstance(rewards, str) or not isinstance(rewards, Sequence) or len(rewards) != 3:
        raise ConfigError(
            f"{type(env).__name__}: reward_schedule={rewards!r} is no schedule.",
            "Give three rewards: for the goal, a hole and the ice.",
        )
    for reward in rewards:
        env.constant("reward_schedule", reward)
    goal, hole, ice = rewards
    return float(goal), float(hole), float(ice)


def draw_lake(lake: Sequence[str], walker: int) -> Tensor:
    """A picture of a map, a text for each row, with the walker in the given cell; used for random lakes too."""
    rows, columns = len(lake), len(lake[0])
    pixels = 500 // max(rows, columns)
    canvas = Canvas(columns * pixels, rows * pixels, world=(0, 0, columns, rows), background=SNOW)
    for row in range(rows):
        for column in range(columns):
            letter = lake[row][column]
            x, y = canvas.tile_center(row, column)
            canvas.tile(row, column, MEADOW if letter == "G" else ICE, inset=0.015, radius=0.06)
            if letter == "H":
                canvas.circle((x, y), 0.37, RIM)
                canvas.circle((x, y - 0.02), 0.33, WATER)
            elif letter == "G":
                draw_flag(canvas, x - 0.18, y - 0.3)
            elif letter == "S":
                canvas.text((x, y), "S", GREY, size=0.5)

    row, column = divmod(walker, columns)
    x, y = canvas.tile_center(row, column)
    if lake[row][column] == "H":
        canvas.circle((x, y), 0.42, RED)
        canvas.circle((x, y), 0.33, WATER)
        draw_person(canvas, x, y - 0.02, size=0.7)
    else:
        draw_person(canvas, x + (0.15 if lake[row][column] == "G" else 0), y)
    return canvas.picture()
