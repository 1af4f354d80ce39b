"""The valley of both mountain cars: everything except the motor and the reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, PAPER, SILVER, SKY, Canvas, Point
from rltrain.env import TensorEnv
from rltrain.tree import columns


@dataclass
class CarState:
    """Where the car is."""

    position: Tensor  # (N,) m, along the x axis; the valley's bottom is at -pi / 6
    velocity: Tensor  # (N,) m/step
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class Hill(TensorEnv[CarState]):
    """A car in a valley between a wall on the left and a goal on the right.

    Args:
        min_position: Left end of the valley, a wall, m.
        max_position: Right end of the valley, m.
        max_speed: Largest speed, m/step.
        goal_position: Where the goal begins, m.
        goal_velocity: Smallest velocity that counts as arrived, m/step.
        gravity: Largest acceleration by the slope, m/step^2.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``max_speed`` not above 0, ``gravity`` below 0, the start between
            -0.6 and -0.4 m not inside the valley, or ``goal_position`` not.
    """

    reset_interval = 8  # the way to the goal is longer

    def __init__(
        self,
        *,
        min_position: float,
        max_position: float,
        max_speed: float,
        goal_position: float | Sequence[float],
        goal_velocity: float | Sequence[float],
        gravity: float | Sequence[float],
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.min_position = self.constant("min_position", min_position, at_most=-0.6)
        self.max_position = self.constant("max_position", max_position, at_least=-0.4)
        self.max_speed = self.constant("max_speed", max_speed, above=0)
        self.goal_position = self.constant(
            "goal_position", goal_position, at_least=min_position, at_most=max_position, per_episode=True
        )
        self.goal_velocity = self.constant("goal_velocity", goal_velocity, per_episode=True)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        low = np.array([min_position, -max_speed], dtype=np.float32)
        high = np.array([max_position, max_speed], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> CarState:
        """At rest, the position uniform in [-0.6, -0.4] m."""
        position = torch.empty(n, device=self.device, dtype=self.dtype).uniform_(-0.6, -0.4, generator=rng)
        return CarState(position, torch.zeros_like(position), self.draw_constants(n, rng))

    def roll(self, state: CarState, push: Tensor) -> tuple[CarState, Tensor]:
        """One step of a car that its motor accelerates by ``push`` (N,) m/step^2, and whether it has arrived (N,)."""
        c = self.constants_of(state.drawn)
        acceleration = torch.addcmul(push, (3 * state.position).cos(), c.gravity, value=-1)
        velocity = (state.velocity + acceleration).clamp(-c.max_speed, c.max_speed)
        position = (state.position + velocity).clamp(c.min_position, c.max_position)
        velocity = torch.where(position > c.min_position, velocity, velocity.relu())  # the wall stops it
        after = CarState(position, velocity, state.drawn)
        return after, self._has_arrived(after)

    def _has_arrived(self, state: CarState) -> Tensor:
        c = self.constants_of(state.drawn)
        return (state.position >= c.goal_position) & (state.velocity >= c.goal_velocity)

    def observe(self, state: CarState) -> Tensor:
        """Position and velocity: (N, 2)."""
        return columns((state.position, state.velocity))

    def info(self, state: CarState) -> dict[str, Tensor]:
        """Success is to have arrived."""
        return {"is_success": self._has_arrived(state)}

    def render(self, state: CarState, index: int = 0) -> Tensor:
        """The car in its valley, and an arrow as long as its path in 5 steps, (400, 600, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        left, right, goal = float(c.min_position), float(c.max_position), float(c.goal_position)
        x, velocity = float(state.position[index]), float(state.velocity[index])
        canvas = Canvas(600, 400, world=(left - 0.07, 0, right + 0.07, 1.29))

        ends = [left + (right - left) * i / 120 for i in range(121)]
        ground = [(-99.0, _height(left)), *((end, _height(end)) for end in ends), (99.0, _height(right))]
        canvas.polygon([(-99, -99), *ground, (99, -99)], SILVER)
        canvas.line(ground, GREY, width=0.015)
        canvas.line([(left, _height(left)), (left, _height(left) + 0.2)], INK, width=0.03)
        canvas.line([(goal, _height(goal)), (goal, _height(goal) + 0.26)], INK, width=0.012)
        flag = [(0.0, 0.26), (-0.14, 0.21), (0.0, 0.16)]
        canvas.polygon(flag, GREEN, at=(goal, _height(goal)))

        slope = math.atan(1.35 * math.cos(3 * x))
        cos, sin = math.cos(slope), math.sin(slope)

        def on_car(along: float, above: float) -> Point:
            return x + cos * along - sin * above, _height(x) + sin * along + cos * above

        body = [(-0.12, 0.04), (0.12, 0.04), (0.12, 0.09), (0.07, 0.1), (0.04, 0.16), (-0.07, 0.16), (-0.1, 0.1)]
        window = [(0.04, 0.105), (0.025, 0.14), (-0.06, 0.14), (-0.075, 0.105)]
        canvas.polygon([*body, (-0.12, 0.09)], BLUE, at=(x, _height(x)), angle=slope)
        canvas.polygon(window, SKY, at=(x, _height(x)), angle=slope)
        for wheel in (on_car(-0.065, 0.045), on_car(0.065, 0.045)):
            canvas.circle(wheel, 0.045, INK)
            canvas.circle(wheel, 0.017, PAPER)
        bumper, way = math.copysign(0.14, velocity), 5 * velocity
        if abs(way) > 0.01:
            canvas.arrow(on_car(bumper, 0.08), on_car(bumper + way, 0.08), GREY, width=0.018, head=min(0.06, abs(way)))
        return canvas.picture()


def _height(x: float) -> float:
    """The ground above place ``x``, from 0.1 to 1: Gymnasium's, and its slope is the ``cos`` of the dynamics."""
    return 0.45 * math.sin(3 * x) + 0.55
