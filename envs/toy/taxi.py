"""Taxi: pick up a passenger and drop her off at her destination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, INK, ORANGE, PAPER, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.toy.figures import draw_flag, draw_person
from rltrain.envs.toy.tables import Outcome, Tables, walk

SIZE = 5  # rows and columns
STANDS = (0, 4, 20, 23)  # cells of the stands red, green, yellow and blue
COLORS = ("#eab9b6", "#bfdcc8", "#f3deb4", "#cbdaea")
IN_TAXI = 4  # where the passenger is, if not at a stand
WALLS = {1, 6, 15, 17, 20, 22}  # cells with a wall on their right
DOWN, UP, RIGHT, LEFT, PICK_UP, DROP_OFF = range(6)
MOVES = {DOWN: (1, 0), UP: (-1, 0), RIGHT: (0, 1), LEFT: (0, -1)}
SIDES = {DOWN: (RIGHT, LEFT), UP: (LEFT, RIGHT), RIGHT: (UP, DOWN), LEFT: (DOWN, UP)}


@dataclass
class TaxiState:
    """Where everybody is."""

    number: Tensor  # (N,) int64, ((row * 5 + column) * 5 + passenger) * 4 + destination; 4 is the passenger in the taxi
    fickle: Tensor  # (N,) bool, whether the passenger is yet to change her mind


class Taxi(TensorEnv[TaxiState]):
    """Gymnasium's Taxi-v4, with the same transition probabilities.

    Observation: (N,): ((row * 5 + column) * 5 + passenger) * 4 + destination. The passenger is at the red, green,
        yellow or blue stand, 0 to 3, or in the taxi, 4; the destination is one of the stands.
    Action: 0 down, 1 up, 2 right, 3 left, 4 picks the passenger up, 5 drops her off. A step into a wall leads nowhere.
    Reward: ``delivery_reward`` (20) for dropping her off at her destination, ``illegal_reward`` (-10) for trying to
        pick up or drop off where that cannot be, otherwise ``step_reward`` (-1).
    Episode end: the passenger is dropped off at her destination. At another stand she gets off too, and waits there.
    Source: Dietterich, "Hierarchical Reinforcement Learning with the MAXQ Value Function Decomposition", 2000;
        Gymnasium 1.4, ``envs/toy_text/taxi.py``.
    Baseline: the optimal policy for a passenger who keeps to her destination, by value iteration with discount 0.999.
        Its mean return of 7.93 is the most there is; Gymnasium's threshold of 8 is above that.

    Args:
        is_rainy: Whether the taxi may slip to either side of where it goes, unless a wall stops it.
        rainy_probability: Probability of going where one wants to in the rain.
        fickle_passenger: Whether the passenger may want to go elsewhere once the taxi has moved with her, once.
        fickle_probability: Probability that she will in an episode.
        step_reward: Reward of a step that earns no other.
        illegal_reward: Reward of trying what cannot be.
        delivery_reward: Reward of dropping the passenger off at her destination.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A probability is not between 0 and 1, or an argument is of the wrong type.
    """

    max_episode_steps = 200
    reward_threshold = 8.0
    render_fps = 4

    def __init__(
        self,
        *,
        is_rainy: bool = False,
        rainy_probability: float = 0.8,
        fickle_passenger: bool = False,
        fickle_probability: float = 0.3,
        step_reward: float = -1.0,
        illegal_reward: float = -10.0,
        delivery_reward: float = 20.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.is_rainy = self.choice("is_rainy", is_rainy, (True, False))
        self.rainy_probability = self.constant("rainy_probability", rainy_probability, at_least=0, at_most=1)
        self.fickle_passenger = self.choice("fickle_passenger", fickle_passenger, (True, False))
        self.fickle_probability = self.constant("fickle_probability", fickle_probability, at_least=0, at_most=1)
        self.rewards = {"step": step_reward, "illegal": illegal_reward, "delivery": delivery_reward}
        for name, reward in self.rewards.items():
            self.constant(f"{name}_reward", reward)
        numbers = [
            encode(cell, at, to) for cell in range(SIZE * SIZE) for at in range(4) for to in range(4) if at != to
        ]
        self.tables = Tables(
            self._outcomes,
            500,
            6,
            numbers,
            success_rate=self.rainy_probability if is_rainy else None,
            device=self.device,
            dtype=self.dtype,
        )
        delivered = [decode(number)[1] == decode(number)[2] for number in range(500)]
        self._delivered = torch.tensor(delivered, device=self.device)
        self.observation_space = spaces.Discrete(500)
        self.action_space = spaces.Discrete(6)

    def _outcomes(self, number: int, action: int) -> list[Outcome]:
        cell, passenger, destination = decode(number)
        if action in MOVES:
            there = drive(cell, action)
            if not self.is_rainy:
                ways = [there]
            elif there == cell:
                ways = [cell] * 3
            else:
                left, right = SIDES[action]
                ways = [drive(cell, left), there, drive(cell, right)]
            return [(encode(way, passenger, destination), self.rewards["step"], False) for way in ways]

        stand = STANDS.index(cell) if cell in STANDS else None
        reward, terminated = self.rewards["step"], False
        if action == PICK_UP and stand == passenger:
            passenger = IN_TAXI
        elif action == DROP_OFF and passenger == IN_TAXI and stand is not None:
            passenger = stand
            terminated = stand == destination
            reward = self.rewards["delivery" if terminated else "step"]
        else:
            reward = self.rewards["illegal"]
        return [(encode(cell, passenger, destination), reward, terminated)] * (3 if self.is_rainy else 1)

    def reset(self, n: int, rng: torch.Generator | None) -> TaxiState:
        """The taxi anywhere, the passenger at a stand, her destination another: each of 300 states alike."""
        number = self.tables.start(n, rng)
        if not self.fickle_passenger:
            return TaxiState(number, torch.zeros(n, dtype=torch.bool, device=self.device))
        return TaxiState(number, torch.rand(n, generator=rng, device=self.device) < self.fickle_probability)

    def step(self, state: TaxiState, action: Tensor, rng: torch.Generator | None) -> tuple[TaxiState, Tensor, Tensor]:
        """One action; where a fickle passenger has been driven, she names one of the other stands."""
        number, reward, terminated = self.tables.follow(state.number, action, rng)
        if not self.fickle_passenger:
            return TaxiState(number, state.fickle), reward, terminated
        rides = state.number // 4 % 5 == IN_TAXI
        has_moved = number // 20 != state.number // 20
        changes = state.fickle & rides & has_moved
        further = torch.randint(1, 4, number.shape, generator=rng, device=self.device)
        other = number - number % 4 + (number + further) % 4
        return TaxiState(torch.where(changes, other, number), state.fickle & ~changes), reward, terminated

    def observe(self, state: TaxiState) -> Tensor:
        """The number (N,)."""
        return state.number

    def info(self, state: TaxiState) -> dict[str, Tensor]:
        """Success is to have the passenger at her destination."""
        return {"is_success": self._delivered[state.number]}

    def baseline(self, state: TaxiState) -> Tensor:
        """The best action (N,)."""
        return self.tables.best_actions[state.number]

    def render(self, state: TaxiState, index: int = 0) -> Tensor:
        """The town from above, a flag at the destination, (450, 450, 3) uint8."""
        cell, passenger, destination = decode(int(state.number[index]))
        canvas = Canvas(450, 450, world=(0, 0, SIZE, SIZE), background=SILVER)
        for place in range(SIZE * SIZE):
            canvas.tile(*divmod(place, SIZE), PAPER, inset=0.015)
        for stand, color, letter in zip(STANDS, COLORS, "RGYB", strict=True):
            canvas.tile(*divmod(stand, SIZE), color, inset=0.015)
            x, y = canvas.tile_center(*divmod(stand, SIZE))
            canvas.text((x - 0.45, y + 0.45), letter, INK, size=0.3, anchor="la")
        for place in WALLS:
            x, y = canvas.tile_center(*divmod(place, SIZE))
            canvas.line([(x + 0.5, y - 0.5), (x + 0.5, y + 0.5)], INK, width=0.09)

        x, y = canvas.tile_center(*divmod(STANDS[destination], SIZE))
        draw_flag(canvas, x + 0.1, y - 0.2)
        x, y = canvas.tile_center(*divmod(cell, SIZE))
        canvas.rectangle(x - 0.4, y - 0.24, x + 0.4, y + 0.04, BLUE, radius=0.08)
        canvas.polygon([(-0.27, 0.02), (0.27, 0.02), (0.18, 0.26), (-0.18, 0.26)], BLUE, at=(x, y))
        canvas.polygon([(-0.2, 0.04), (0.2, 0.04), (0.14, 0.21), (-0.14, 0.21)], PAPER, at=(x, y))
        for wheel in (x - 0.23, x + 0.23):
            canvas.circle((wheel, y - 0.24), 0.1, INK)
        if passenger == IN_TAXI:
            canvas.circle((x, y + 0.11), 0.09, ORANGE)
        else:
            x, y = canvas.tile_center(*divmod(STANDS[passenger], SIZE))
            draw_person(canvas, x - 0.2, y - 0.15, ORANGE, size=0.8)
        return canvas.picture()


class MaskedTaxi(Taxi):
    """Taxi with a mask of the actions that change something.

    Observation: as in Taxi-v4, (N,), beside the mask (N, 6) bool: true where an action leads to another state.
    Action: 0 down, 1 up, 2 right, 3 left, 4 picks the passenger up, 5 drops her off. What the mask forbids changes
        nothing and costs what it costs in Taxi-v4.
    Reward: ``delivery_reward`` (20) for dropping the passenger off at her destination, ``illegal_reward`` (-10) for
        trying to pick up or drop off where that cannot be, otherwise ``step_reward`` (-1).
    Episode end: the passenger is dropped off at her destination.
    Source: Gymnasium 1.4, ``envs/toy_text/taxi.py``, which gives the mask in its infos.
    Baseline: the optimal policy for a passenger who keeps to her destination, by value iteration with discount 0.999.
        Its mean return of 7.93 is the most there is; Gymnasium's threshold of 8 is above that.

    Args:
        is_rainy: Whether the taxi may slip to either side of where it goes, unless a wall stops it.
        rainy_probability: Probability of going where one wants to in the rain.
        fickle_passenger: Whether the passenger may want to go elsewhere once the taxi has moved with her, once.
        fickle_probability: Probability that she will in an episode.
        step_reward: Reward of a step that earns no other.
        illegal_reward: Reward of trying what cannot be.
        delivery_reward: Reward of dropping the passenger off at her destination.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.
    """

    def action_mask(self, state: TaxiState) -> Tensor:
        """(N, 6) bool: whether an action leads to another state."""
        return self.tables.changes[state.number]


def encode(cell: int, passenger: int, destination: int) -> int:
    """The number of a state."""
    return (cell * 5 + passenger) * 4 + destination


def decode(number: int) -> tuple[int, int, int]:
    """Cell, passenger and destination of a state."""
    return number // 20, number // 4 % 5, number % 4


def drive(cell: int, action: int) -> int:
    """The cell that a taxi gets to: walls and the town's edge stop it."""
    there = walk(cell, MOVES[action], SIZE, SIZE)
    return cell if abs(there - cell) == 1 and min(there, cell) in WALLS else there
