"""Pendulum: swing a rod up and hold it there with a motor too weak to lift it at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREY, INK, ORANGE, PAPER, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.tree import columns


@dataclass
class PendulumState:
    """Where the rod is."""

    th: Tensor  # (N,) rad, 0 upright, counter-clockwise, not wrapped
    thdot: Tensor  # (N,) rad/s
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class Pendulum(TensorEnv[PendulumState]):
    """Gymnasium's Pendulum-v1, step for step.

    Observation: (N, 3): cos(th), sin(th), thdot (rad/s).
    Action: (N, 1): the torque in N m, positive counter-clockwise, clipped to ``max_torque``.
    Reward: minus the cost of the state before the step and of the torque: th^2 + 0.1 thdot^2 + 0.001 u^2, with th
        wrapped to [-pi, pi).
    Episode end: none but the time limit.
    Source: Gymnasium 1.4, ``envs/classic_control/pendulum.py``.

    ``dt``, ``g``, ``m`` and ``l`` may be ranges ``[low, high]``, drawn anew for each episode.

    Args:
        max_torque: Largest torque, N m.
        max_speed: Largest angular velocity, rad/s.
        dt: Time between two states, s.
        g: Acceleration of free fall, m/s^2.
        m: Mass of the rod, kg.
        l: Length of the rod, m.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``g`` below 0, or another not above 0.
    """

    max_episode_steps = 200
    reset_interval = 8  # no episode ends sooner

    def __init__(
        self,
        *,
        max_torque: float = 2.0,
        max_speed: float = 8.0,
        dt: float | Sequence[float] = 0.05,
        g: float | Sequence[float] = 10.0,
        m: float | Sequence[float] = 1.0,
        l: float | Sequence[float] = 1.0,  # noqa: E741
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.max_torque = self.constant("max_torque", max_torque, above=0)
        self.max_speed = self.constant("max_speed", max_speed, above=0)
        self.dt = self.constant("dt", dt, above=0, per_episode=True)
        self.g = self.constant("g", g, at_least=0, per_episode=True)
        self.m = self.constant("m", m, above=0, per_episode=True)
        self.l = self.constant("l", l, above=0, per_episode=True)
        high = np.array([1.0, 1.0, max_speed], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-max_torque, max_torque, shape=(1,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> PendulumState:
        """``th`` uniform in [-pi, pi], ``thdot`` in [-1, 1]."""
        th, thdot = torch.empty(2, n, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng).unbind()
        return PendulumState(th * math.pi, thdot, self.draw_constants(n, rng))

    def step(
        self, state: PendulumState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[PendulumState, Tensor, Tensor]:
        """One semi-implicit Euler step of a rod about its end: m l^2 / 3 thdotdot = m g l / 2 sin(th) + u.

        Gymnasium's own equation, multiplied out. ``addcmul(a, b, c)`` is ``a + b * c`` and ``addcdiv(a, b, c)``
        ``a + b / c`` in one operation.
        """
        c = self.constants_of(state.drawn)
        u = action.squeeze(-1).to(self.dtype).clamp(-self.max_torque, self.max_torque)
        upright = (state.th + math.pi) % (2 * math.pi) - math.pi
        cost = torch.addcmul(upright.square(), state.thdot, state.thdot, value=0.1)
        cost = torch.addcmul(cost, u, u, value=0.001)

        pull = torch.addcdiv(c.g * state.th.sin(), u, c.m * c.l, value=2)
        thdot = torch.addcmul(state.thdot, pull / c.l, c.dt, value=1.5)
        thdot = thdot.clamp(-self.max_speed, self.max_speed)
        after = PendulumState(torch.addcmul(state.th, thdot, c.dt), thdot, state.drawn)
        return after, -cost, torch.zeros_like(thdot, dtype=torch.bool)

    def observe(self, state: PendulumState) -> Tensor:
        """cos(th), sin(th), thdot: (N, 3)."""
        return columns((state.th.cos(), state.th.sin(), state.thdot))

    def render(self, state: PendulumState, index: int = 0) -> Tensor:
        """The rod on its pivot and an arrow as long as it turns in 0.2 s, (500, 500, 3) uint8."""
        th, thdot = float(state.th[index]), float(state.thdot[index])
        length = float(self.constants_of(state.drawn[index]).l)
        size = 1.35 * length
        canvas = Canvas(500, 500, world=(-size, -size, size, size))
        up = math.pi / 2  # th counts from upright, the canvas from the x axis

        canvas.circle((0, 0), length + 0.01 * size, SILVER)  # the tip's path: a ring
        canvas.circle((0, 0), length - 0.01 * size, PAPER)
        canvas.line([(0, 0.96 * length), (0, 1.04 * length)], GREY, width=0.02 * size)
        canvas.circle((0, 0), 0.16 * size, SILVER)  # the motor, fixed to the wall
        tip = (length * math.cos(th + up), length * math.sin(th + up))
        canvas.line([(0, 0), tip], ORANGE, width=0.13 * size)
        turn = 0.2 * thdot
        if abs(turn) > 0.1:
            start = th + up + math.copysign(0.13, turn)
            canvas.arc((0, 0), 1.13 * length, start, start + turn, BLUE, width=0.025 * size, head=0.1 * size)
        canvas.circle((0, 0), 0.05 * size, INK)
        canvas.circle((0, 0), 0.02 * size, PAPER)
        return canvas.picture()
