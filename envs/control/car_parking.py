"""Car parking: drive a car from a lane into a slot between two parked ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, PAPER, RED, SILVER, SKY, Canvas, Point
from rltrain.env import TensorEnv
from rltrain.tree import columns

LANE_WIDTH, LANE_LENGTH = 8.0, 12.0  # m: the lane from y = 0 upwards, and from the slot to either end
MAX_SPEED = 3.0  # m/s
AXLE = 0.2  # share of the car's length that is behind the rear axle


@dataclass
class CarParkingState:
    """Where the car is. The slot's mouth is at the origin, the slot below it."""

    x: Tensor  # (N,) m, of the middle of the rear axle
    y: Tensor  # (N,) m
    heading: Tensor  # (N,) rad, counter-clockwise from the x axis, not wrapped
    speed: Tensor  # (N,) m/s, positive forwards
    steering: Tensor  # (N,) rad, of the front wheels, positive to the left
    clearance: Tensor  # (N,) m to the nearest obstacle, at most 1, below 0 where the car touches it
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class CarParking(TensorEnv[CarParkingState]):
    """Park a car in a slot at right angles to the lane, forwards or backwards.

    Observation: (N, 7): the car's middle (12 m), cos and sin of the heading, the speed (3 m/s), the steering angle as
        a share of ``max_steering``, and the distance to the nearest obstacle (m, at most
        1, below 0 once the car touches it).
    Action: (N, 2) in [-1, 1]: acceleration as a share of ``max_acceleration``, rate of the steering angle as a share
        of ``steering_rate``.
    Reward: the gain in a potential, minus 0.5 per m from the car's middle to the slot's and minus 2 |cos(heading)|;
        20 for having parked, -10 for touching; minus 0.02 a step.
    Episode end: the car has parked: its middle is within 0.4 m of the slot's, 0.15 rad off its direction at most and
        slower than 0.3 m/s; or it touches a parked car, the curb, or leaves the lane.
    Source: the kinematic bicycle model about the rear axle, Rajamani, "Vehicle Dynamics and Control", 2nd edition,
        2012, section 2.2.

    Whether the car touches is exact for convex obstacles as long as a step is short against them: its corners must be
    in the lane or the slot, and the posts at the slot's mouth outside the car.

    Every constant may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        length: Length of the car, m.
        width: Width of the car, m.
        wheelbase: Distance between its axles, m.
        slot_width: Width of the slot, m.
        slot_depth: Depth of the slot, m.
        max_acceleration: Largest acceleration, m/s^2.
        max_steering: Largest angle of the front wheels, rad.
        steering_rate: Largest rate of change of that angle, rad/s.
        tau: Time between two states, s.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is not above 0, or ``max_steering`` above 1.2 rad.
    """

    max_episode_steps = 200
    reset_interval = 16
    render_fps = 10

    def __init__(
        self,
        *,
        length: float | Sequence[float] = 4.2,
        width: float | Sequence[float] = 1.8,
        wheelbase: float | Sequence[float] = 2.5,
        slot_width: float | Sequence[float] = 3.0,
        slot_depth: float | Sequence[float] = 5.2,
        max_acceleration: float | Sequence[float] = 2.0,
        max_steering: float | Sequence[float] = 0.65,
        steering_rate: float | Sequence[float] = 1.5,
        tau: float | Sequence[float] = 0.1,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.length = self.constant("length", length, above=0, per_episode=True)
        self.width = self.constant("width", width, above=0, per_episode=True)
        self.wheelbase = self.constant("wheelbase", wheelbase, above=0, per_episode=True)
        self.slot_width = self.constant("slot_width", slot_width, above=0, per_episode=True)
        self.slot_depth = self.constant("slot_depth", slot_depth, above=0, per_episode=True)
        self.max_acceleration = self.constant("max_acceleration", max_acceleration, above=0, per_episode=True)
        self.max_steering = self.constant("max_steering", max_steering, above=0, at_most=1.2, per_episode=True)
        self.steering_rate = self.constant("steering_rate", steering_rate, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        high = np.array([2, 2, 1, 1, 1, 1, 1], dtype=np.float32)
        low = np.array([-2, -2, -1, -1, -1, -1, -10], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> CarParkingState:
        """In the lane, 3 to 7 m to either side of the slot, about level, heading along it either way, at rest."""
        drawn = self.draw_constants(n, rng)
        far, side, level, turn, way = torch.rand(5, n, generator=rng, device=self.device, dtype=self.dtype).unbind()
        x = torch.where(side < 0.5, -1.0, 1.0) * (3 + 4 * far)
        heading = torch.where(way < 0.5, 0.0, math.pi) + 0.4 * (turn - 0.5)
        y, at_rest = 3 + 2 * level, torch.zeros_like(x)
        return CarParkingState(x, y, heading, at_rest, at_rest, self._clearance(x, y, heading, drawn), drawn)

    def step(
        self, state: CarParkingState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CarParkingState, Tensor, Tensor]:
        """The controls change first; then the car drives on the resulting arc, by the midpoint rule."""
        c = self.constants_of(state.drawn)
        pedal, wheel = action.to(self.dtype).clamp(-1, 1).unbind(-1)
        speed = (state.speed + c.tau * c.max_acceleration * pedal).clamp(-MAX_SPEED, MAX_SPEED)
        steering = state.steering + c.tau * c.steering_rate * wheel
        steering = torch.maximum(torch.minimum(steering, c.max_steering), -c.max_steering)
        turn = c.tau * speed * steering.tan() / c.wheelbase
        midway = state.heading + turn / 2
        x = state.x + c.tau * speed * midway.cos()
        y = state.y + c.tau * speed * midway.sin()
        heading = state.heading + turn
        clearance = self._clearance(x, y, heading, state.drawn)
        after = CarParkingState(x, y, heading, speed, steering, clearance, state.drawn)
        touches = clearance < 0
        parked = self._parked(after) > touches
        end = torch.where(touches, -10.0, torch.where(parked, 20.0, 0.0))
        return after, end + self._potential(after) - self._potential(state) - 0.02, touches | parked

    def _middle(self, state: CarParkingState) -> tuple[Tensor, Tensor]:
        ahead = (0.5 - AXLE) * self.constants_of(state.drawn).length
        return state.x + ahead * state.heading.cos(), state.y + ahead * state.heading.sin()

    def _off(self, state: CarParkingState) -> Tensor:
        """Distance of the car's middle from the slot's, m."""
        x, y = self._middle(state)
        return torch.hypot(x, y + self.constants_of(state.drawn).slot_depth / 2)

    def _potential(self, state: CarParkingState) -> Tensor:
        return -0.5 * self._off(state) - 2 * state.heading.cos().abs()

    def _parked(self, state: CarParkingState) -> Tensor:
        straight = state.heading.cos().abs() < math.sin(0.15)
        return (self._off(state) < 0.4) & straight & (state.speed.abs() < 0.3)

    def _clearance(self, rear_x: Tensor, rear_y: Tensor, heading: Tensor, drawn: Tensor) -> Tensor:
        """Distance to the nearest obstacle, m, at most 1; below 0 where the car touches it. See the class."""
        c = self.constants_of(drawn)
        cos, sin = heading.cos(), heading.sin()
        clear = torch.ones_like(cos)
        half_slot, half_width = c.slot_width / 2, c.width / 2
        for along in ((1 - AXLE) * c.length, -AXLE * c.length):
            for across in (half_width, -half_width):
                x = rear_x + along * cos - across * sin
                y = rear_y + along * sin + across * cos
                in_lane = torch.minimum(torch.minimum(y, LANE_WIDTH - y), LANE_LENGTH - x.abs())
                in_slot = torch.minimum(torch.minimum(half_slot - x.abs(), y + c.slot_depth), 0.5 - y)
                clear = torch.minimum(clear, torch.maximum(in_lane, in_slot))
        for post in (half_slot, -half_slot):
            along = (post - rear_x) * cos - rear_y * sin  # of the post at (post, 0), as the car sees it
            across = -(post - rear_x) * sin - rear_y * cos
            beyond = torch.maximum(along - (1 - AXLE) * c.length, -AXLE * c.length - along)
            clear = torch.minimum(clear, torch.maximum(beyond, across.abs() - half_width))
        return clear

    def observe(self, state: CarParkingState) -> Tensor:
        """(N, 7)."""
        x, y = self._middle(state)
        parts = (
            (x / LANE_LENGTH).clamp(-2, 2),
            (y / LANE_LENGTH).clamp(-2, 2),
            state.heading.cos(),
            state.heading.sin(),
            state.speed / MAX_SPEED,
            (state.steering / self.constants_of(state.drawn).max_steering).clamp(-1, 1),
            state.clearance.clamp(min=-10),
        )
        return columns(parts)

    def info(self, state: CarParkingState) -> dict[str, Tensor]:
        """Whether the car has parked."""
        return {"is_success": self._parked(state) & (state.clearance >= 0)}

    def render(self, state: CarParkingState, index: int = 0) -> Tensor:
        """The lane, the slot and the car from above, (360, 600, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        length, width, slot, depth, wheelbase = (
            float(value) for value in (c.length, c.width, c.slot_width, c.slot_depth, c.wheelbase)
        )
        x, y, heading, steering = (float(part[index]) for part in (state.x, state.y, state.heading, state.steering))
        canvas = Canvas(600, 360, world=(-12.2, -6.2, 12.2, 8.4), background=SILVER)
        canvas.rectangle(-LANE_LENGTH, 0, LANE_LENGTH, LANE_WIDTH, PAPER)
        canvas.rectangle(-slot / 2, -depth, slot / 2, 0.1, PAPER)
        canvas.rectangle(-0.5 * width, -0.5 * (depth + length), 0.5 * width, -0.5 * (depth - length), "#4f9d6940")
        for line in ([(-slot / 2, 0), (-slot / 2, -depth)], [(slot / 2, 0), (slot / 2, -depth)]):
            canvas.line(line, RED, width=0.12)
        canvas.line([(-slot / 2, -depth), (slot / 2, -depth)], RED, width=0.12)
        for side in (-1, 1):
            canvas.line([(side * slot / 2, 0), (side * LANE_LENGTH, 0)], RED, width=0.12)
            place = side * (slot / 2 + 0.5 + width / 2)
            canvas.rectangle(
                place - width / 2, -depth + 0.4, place + width / 2, -depth + 0.4 + length, GREY, radius=0.4
            )
        canvas.circle((0, -depth / 2), 0.15, GREEN)

        def on_car(along: float, across: float) -> Point:
            cos, sin = math.cos(heading), math.sin(heading)
            return x + along * cos - across * sin, y + along * sin + across * cos

        back, front, half = -AXLE * length, (1 - AXLE) * length, width / 2
        for along, angle in ((0.0, 0.0), (wheelbase, steering)):
            for across in (-half, half):
                tyre = [(-0.35, -0.14), (0.35, -0.14), (0.35, 0.14), (-0.35, 0.14)]
                canvas.polygon(tyre, INK, at=on_car(along, 0.93 * across), angle=heading + angle)
        canvas.polygon([on_car(*p) for p in ((back, -half), (front, -half), (front, half), (back, half))], BLUE)
        window = ((0.66 * front, -0.8 * half), (0.45 * front, -0.7 * half), (0.45 * front, 0.7 * half))
        canvas.polygon([on_car(*p) for p in (*window, (0.66 * front, 0.8 * half))], SKY)
        return canvas.picture()
