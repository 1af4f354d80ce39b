"""Vertical landing: set a rocket down on its pad, upright and softly, with little fuel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, SKY, YELLOW, Canvas, Point
from rltrain.env import TensorEnv
from rltrain.tree import columns

WIDE, HIGH = 12.0, 18.0  # m to both sides and upwards: what lies beyond is out of bounds
NOTHING, LEFT, MAIN, RIGHT = range(4)


@dataclass
class LandingState:
    """Where the rocket is. The pad's middle is the origin."""

    x: Tensor  # (N,) m, to the right
    y: Tensor  # (N,) m, of the feet above the ground
    angle: Tensor  # (N,) rad, 0 upright, positive counter-clockwise: leaning to the left
    x_dot: Tensor  # (N,) m/s
    y_dot: Tensor  # (N,) m/s
    angle_dot: Tensor  # (N,) rad/s
    main: Tensor  # (N,) from 0 to 1, throttle of the main engine in the last step
    side: Tensor  # (N,) from -1 to 1, of the side engines, positive turning counter-clockwise
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class VerticalLanding(TensorEnv[LandingState]):
    """Land a rocket on the Moon, on its pad, in a vertical plane.

    Observation: (N, 7): x / 12 m, y / 18 m, cos and sin of the angle, x_dot and y_dot (10 m/s), angle_dot (5 rad/s);
        each clipped at +-1.5.
    Action: 0 nothing, 1 turns to the left (counter-clockwise), 2 main engine, 3 turns to the right; if ``continuous``,
        (N, 2) in [-1, 1]: the main engine's throttle, off up to 0, and the turn, positive counter-clockwise.
    Reward: 100 for a soft landing on the pad and -100 for any other end but the time limit; the gain in a potential,
        minus 1 per m from the pad, minus 2 per m/s, minus 10 per rad; minus 0.1 for a step of the main engine and 0.02
        for one of a side engine.
    Episode end: the feet touch the ground, or the rocket is more than 12 m to the side or 18 m high. A landing is soft
        if both speeds are at most ``soft``, the angle at most 0.2 rad and the place on the pad.
    Source: Newton's equations of a rigid body with constant mass; the task after Gymnasium's LunarLander; potentials
        leave the best policy as it is (Ng, Harada and Russell, "Policy invariance under reward transformations", 1999).
    Baseline: a hand-written descent: the speed to fall with shrinks with the height, the lean follows place and speed.

    The threshold of 95 leaves room for one landing in twenty to fail: a soft one earns about 106.

    Every constant but ``continuous`` may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2; the Moon's unless given.
        main_power: Acceleration by the main engine, m/s^2.
        turn_power: Angular acceleration by a side engine, rad/s^2.
        side_push: Sideward acceleration that comes with it, m/s^2.
        pad: Half the width of the pad, m.
        soft: Largest speed of a soft landing, m/s.
        tau: Time between two states, s.
        continuous: Whether actions are throttles, not four choices.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` or ``side_push`` below 0, or another not above 0.
    """

    max_episode_steps = 400
    reward_threshold = 95.0
    render_fps = 20

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 1.62,
        main_power: float | Sequence[float] = 4.0,
        turn_power: float | Sequence[float] = 1.0,
        side_push: float | Sequence[float] = 0.2,
        pad: float | Sequence[float] = 2.0,
        soft: float | Sequence[float] = 1.0,
        tau: float | Sequence[float] = 0.05,
        continuous: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.main_power = self.constant("main_power", main_power, above=0, per_episode=True)
        self.turn_power = self.constant("turn_power", turn_power, above=0, per_episode=True)
        self.side_push = self.constant("side_push", side_push, at_least=0, per_episode=True)
        self.pad = self.constant("pad", pad, above=0, per_episode=True)
        self.soft = self.constant("soft", soft, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        self.continuous = self.choice("continuous", continuous, (True, False))
        self.observation_space = spaces.Box(-1.5, 1.5, (7,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32) if self.continuous else spaces.Discrete(4)
        # throttle and turn (4, 2) of each choice
        choices = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]]
        self._choices = torch.tensor(choices, device=self.device, dtype=self.dtype)

    def reset(self, n: int, rng: torch.Generator | None) -> LandingState:
        """10 to 14 m high and up to 5 m to a side, within 0.3 rad of upright, falling with up to 2 m/s."""
        drawn = self.draw_constants(n, rng)
        near = torch.empty(6, n, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng)
        x, y, angle, x_dot, y_dot, angle_dot = near.unbind()
        off = torch.zeros_like(x)
        return LandingState(5 * x, 12 + 2 * y, 0.3 * angle, 1.5 * x_dot, y_dot - 1, 0.2 * angle_dot, off, off, drawn)

    def step(
        self, state: LandingState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[LandingState, Tensor, Tensor]:
        """One semi-implicit Euler step: the speeds first, then the places with the new speeds."""
        c = self.constants_of(state.drawn)
        if self.continuous:
            main, side = action.to(self.dtype).clamp(-1, 1).unbind(-1)
            main = main.clamp(min=0)
        else:
            main, side = self._choices.index_select(0, action).unbind(-1)
        cos, sin = state.angle.cos(), state.angle.sin()
        push, lift = -c.side_push * side, c.main_power * main
        x_dot = state.x_dot + c.tau * (push * cos - lift * sin)
        y_dot = state.y_dot + c.tau * (push * sin + lift * cos - c.gravity)
        angle_dot = state.angle_dot + c.tau * c.turn_power * side
        after = LandingState(
            x=state.x + c.tau * x_dot,
            y=state.y + c.tau * y_dot,
            angle=state.angle + c.tau * angle_dot,
            x_dot=x_dot,
            y_dot=y_dot,
            angle_dot=angle_dot,
            main=main,
            side=side,
            drawn=state.drawn,
        )
        down = after.y <= 0
        lost = (after.x.abs() > WIDE) | (after.y > HIGH)
        landed = self._landed(after)
        end = torch.where(landed, 100.0, torch.where(down | lost, -100.0, 0.0))
        fuel = 0.1 * main + 0.02 * side.abs()
        return after, end + self._potential(after) - self._potential(state) - fuel, down | lost

    def _landed(self, state: LandingState) -> Tensor:
        c = self.constants_of(state.drawn)
        fastest = torch.maximum(state.x_dot.abs(), state.y_dot.abs())
        return (state.y <= 0) & (state.x.abs() <= c.pad) & (fastest <= c.soft) & (state.angle.abs() <= 0.2)

    @staticmethod
    def _potential(state: LandingState) -> Tensor:
        place = torch.hypot(state.x, state.y.clamp(min=0))
        return -place - 2 * torch.hypot(state.x_dot, state.y_dot) - 10 * state.angle.abs()

    def observe(self, state: LandingState) -> Tensor:
        """(N, 7)."""
        parts = (
            state.x / WIDE,
            state.y / HIGH,
            state.angle.cos(),
            state.angle.sin(),
            state.x_dot / 10,
            state.y_dot / 10,
            state.angle_dot / 5,
        )
        return columns(parts).clamp(-1.5, 1.5)

    def info(self, state: LandingState) -> dict[str, Tensor]:
        """Whether the rocket has landed softly on its pad."""
        return {"is_success": self._landed(state)}

    def baseline(self, state: LandingState) -> Tensor:
        """Choices (N,), or throttles (N, 2) if ``continuous``."""
        lean = (0.06 * state.x + 0.2 * state.x_dot).clamp(-0.35, 0.35)  # to the left of what is to the right
        turn = 4 * (lean - state.angle) - 4 * state.angle_dot
        wanted = -(0.35 + 0.55 * state.y.clamp(min=0).sqrt())  # m/s
        lift = wanted - state.y_dot
        if self.continuous:
            return torch.stack((2 * lift, turn), dim=-1).clamp(-1, 1)
        upright = torch.where(turn.abs() > 0.15, torch.where(turn > 0, LEFT, RIGHT), NOTHING)
        burns = (lift > 0) & ((turn.abs() < 0.8) | (lift > 0.6))
        return torch.where(burns, MAIN, upright)

    def render(self, state: LandingState, index: int = 0) -> Tensor:
        """The rocket over its pad, (420, 560, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        x, y, angle, main, side = (
            float(part[index]) for part in (state.x, state.y, state.angle, state.main, state.side)
        )
        pad = float(c.pad)
        canvas = Canvas(560, 420, world=(-WIDE, -1.2, WIDE, 16.8), background="#20242e")
        for k in range(40):  # stars, always the same
            canvas.circle(((7.31 * k) % 24 - WIDE, (4.77 * k) % 15 + 2), 0.05, "#8d96a8")
        canvas.rectangle(-99, -99, 99, 0, GREY)
        canvas.rectangle(-pad, -0.28, pad, 0, GREEN)

        def on_rocket(right: float, up: float) -> Point:
            return x + math.cos(angle) * right - math.sin(angle) * up, (
                y + math.sin(angle) * right + math.cos(angle) * up
            )

        if main > 0:
            canvas.polygon([on_rocket(-0.22, 0.35), on_rocket(0, 0.3 - 1.5 * main), on_rocket(0.22, 0.35)], YELLOW)
        if abs(side) > 0:
            away = -math.copysign(0.4, side)
            flame = [on_rocket(away, 2.3), on_rocket(away * (1 + 1.6 * abs(side)), 2.15), on_rocket(away, 2.0)]
            canvas.polygon([(px, py) for px, py in flame], ORANGE)
        for foot in (-0.65, 0.65):
            canvas.line([on_rocket(foot / 2, 0.8), on_rocket(foot, 0.0)], INK if y < 0.4 else SKY, width=0.12)
        canvas.polygon([on_rocket(px, py) for px, py in ((-0.4, 0.35), (0.4, 0.35), (0.4, 2.3), (-0.4, 2.3))], BLUE)
        canvas.polygon([on_rocket(-0.4, 2.3), on_rocket(0, 3.1), on_rocket(0.4, 2.3)], RED)
        canvas.circle(on_rocket(0, 1.75), 0.2, SKY)
        return canvas.picture()
