"""Reacher: bring the tip of a planar arm with two links to a target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, PAPER, SILVER, SKY, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.control.integrate import runge_kutta
from rltrain.tree import columns


@dataclass
class ReacherState:
    """Where the arm and its target are."""

    shoulder: Tensor  # (N,) rad, the inner link's angle from the x axis, counter-clockwise, not wrapped
    elbow: Tensor  # (N,) rad, the outer link's angle from the inner one, not wrapped
    shoulder_dot: Tensor  # (N,) rad/s
    elbow_dot: Tensor  # (N,) rad/s
    target_x: Tensor  # (N,) m
    target_y: Tensor  # (N,) m
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class Reacher(TensorEnv[ReacherState]):
    """Bring the tip of a two-link arm, which lies in a horizontal plane, to a target and keep it there.

    Observation: (N, 10): cos and sin of the shoulder and of the elbow, their rates (rad/s, clipped at +-20), the
        target's place (m), the way from the tip to the target (m); x before y.
    Action: (N, 2) in [-1, 1]: the torques at the shoulder and the elbow as shares of ``max_torque``.
    Reward: minus the distance from tip to target in m, minus 0.05 times the mean square of the actions.
    Episode end: none but the time limit. Success is a tip within ``tolerance`` of the target.
    Source: equations of the planar elbow manipulator in Spong, Hutchinson and Vidyasagar, "Robot Modeling and
        Control", 2nd edition, 2020, section 6.4, without gravity and with viscous friction at the joints; the task
        after Gymnasium's Reacher.
    Baseline: a spring and a damper from the tip to the target (impedance control, Hogan 1985), by the transposed
        Jacobian.

    Every constant may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        mass1: Mass of the inner link, a uniform rod, kg.
        mass2: Mass of the outer link, a uniform rod, kg.
        length1: Length of the inner link, m.
        length2: Length of the outer link, m.
        friction: Torque of a joint against its motion, N m s/rad.
        max_torque: Largest torque, N m.
        tolerance: Distance that counts as success, m.
        tau: Time between two states, s.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``friction`` below 0, or another not above 0.
    """

    max_episode_steps = 100
    render_fps = 25

    def __init__(
        self,
        *,
        mass1: float | Sequence[float] = 1.0,
        mass2: float | Sequence[float] = 1.0,
        length1: float | Sequence[float] = 0.5,
        length2: float | Sequence[float] = 0.5,
        friction: float | Sequence[float] = 0.2,
        max_torque: float | Sequence[float] = 2.0,
        tolerance: float | Sequence[float] = 0.05,
        tau: float | Sequence[float] = 0.04,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.mass1 = self.constant("mass1", mass1, above=0, per_episode=True)
        self.mass2 = self.constant("mass2", mass2, above=0, per_episode=True)
        self.length1 = self.constant("length1", length1, above=0, per_episode=True)
        self.length2 = self.constant("length2", length2, above=0, per_episode=True)
        self.friction = self.constant("friction", friction, at_least=0, per_episode=True)
        self.max_torque = self.constant("max_torque", max_torque, above=0, per_episode=True)
        self.tolerance = self.constant("tolerance", tolerance, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        reach = float(self.length1.max() + self.length2.max()) if self.device.type != "meta" else 1.0
        high = np.array([1, 1, 1, 1, 20, 20, reach, reach, 2 * reach, 2 * reach], dtype=np.float32) * 1.0001
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> ReacherState:
        """Any pose at rest, and a target anywhere in the ring between a fifth and all of the arm's reach."""
        drawn = self.draw_constants(n, rng)
        c = self.constants_of(drawn)
        shoulder, elbow, direction, share = torch.rand(
            4, n, generator=rng, device=self.device, dtype=self.dtype
        ).unbind()
        radius = (c.length1 + c.length2) * (0.04 + 0.96 * share).sqrt()  # uniform over the ring's area
        angle = 2 * math.pi * direction
        at_rest = torch.zeros_like(shoulder)
        return ReacherState(
            2 * math.pi * shoulder,
            2 * math.pi * elbow,
            at_rest,
            at_rest,
            radius * angle.cos(),
            radius * angle.sin(),
            drawn,
        )

    def step(
        self, state: ReacherState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[ReacherState, Tensor, Tensor]:
        """One Runge-Kutta step under constant torques."""
        c = self.constants_of(state.drawn)
        effort = action.to(self.dtype).clamp(-1, 1)
        torque1, torque2 = (effort * c.max_torque.unsqueeze(-1)).unbind(-1)
        # The mass matrix is [[a + 2 b cos, d + b cos], [d + b cos, d]], cos that of the elbow.
        b = c.mass2 * c.length1 * c.length2 / 2
        d = c.mass2 * c.length2.square() / 3
        a = c.mass1 * c.length1.square() / 3 + c.mass2 * c.length1.square() + d

        def rates(y: Tensor) -> Tensor:
            _, elbow, shoulder_dot, elbow_dot = y.unbind()
            cross = b * elbow.cos()
            pull = b * elbow.sin()
            m00, m01 = a + 2 * cross, d + cross
            r0 = torque1 - c.friction * shoulder_dot + pull * elbow_dot * (2 * shoulder_dot + elbow_dot)
            r1 = torque2 - c.friction * elbow_dot - pull * shoulder_dot.square()
            determinant = m00 * d - m01.square()
            shoulder_acc = (d * r0 - m01 * r1) / determinant
            elbow_acc = (m00 * r1 - m01 * r0) / determinant
            return torch.stack((shoulder_dot, elbow_dot, shoulder_acc, elbow_acc))

        y = torch.stack((state.shoulder, state.elbow, state.shoulder_dot, state.elbow_dot))
        shoulder, elbow, shoulder_dot, elbow_dot = runge_kutta(rates, y, c.tau).unbind()
        after = ReacherState(shoulder, elbow, shoulder_dot, elbow_dot, state.target_x, state.target_y, state.drawn)
        reward = -self._distance(after) - 0.05 * effort.square().mean(-1)
        return after, reward, torch.zeros_like(reward, dtype=torch.bool)

    def tip(self, state: ReacherState) -> tuple[Tensor, Tensor]:
        """Where the tip of the arm is, m: x and y (N,)."""
        c = self.constants_of(state.drawn)
        outer = state.shoulder + state.elbow
        x = c.length1 * state.shoulder.cos() + c.length2 * outer.cos()
        y = c.length1 * state.shoulder.sin() + c.length2 * outer.sin()
        return x, y

    def _distance(self, state: ReacherState) -> Tensor:
        x, y = self.tip(state)
        return torch.hypot(state.target_x - x, state.target_y - y)

    def observe(self, state: ReacherState) -> Tensor:
        """(N, 10)."""
        x, y = self.tip(state)
        parts = (
            state.shoulder.cos(),
            state.shoulder.sin(),
            state.elbow.cos(),
            state.elbow.sin(),
            state.shoulder_dot.clamp(-20, 20),
            state.elbow_dot.clamp(-20, 20),
            state.target_x,
            state.target_y,
            state.target_x - x,
            state.target_y - y,
        )
        return columns(parts)

    def info(self, state: ReacherState) -> dict[str, Tensor]:
        """Whether the tip is at the target."""
        return {"is_success": self._distance(state) < self.constants_of(state.drawn).tolerance}

    def baseline(self, state: ReacherState) -> Tensor:
        """The torques (N, 2) of a spring of 10 N/m at the tip and dampers of 1 N m s/rad at the joints."""
        c = self.constants_of(state.drawn)
        x, y = self.tip(state)
        pull_x, pull_y = 10 * (state.target_x - x), 10 * (state.target_y - y)
        outer = state.shoulder + state.elbow
        elbow_x, elbow_y = -c.length2 * outer.sin(), c.length2 * outer.cos()  # d tip / d elbow
        torque1 = -y * pull_x + x * pull_y - state.shoulder_dot
        torque2 = elbow_x * pull_x + elbow_y * pull_y - state.elbow_dot
        torques = torch.stack((torque1, torque2), dim=-1)
        return (torques / c.max_torque.unsqueeze(-1)).clamp(-1, 1)

    def render(self, state: ReacherState, index: int = 0) -> Tensor:
        """The arm from above and its target, (400, 400, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        length1, reach = float(c.length1), float(c.length1 + c.length2)
        shoulder, x, y = (float(part[index]) for part in (state.shoulder, *self.tip(state)))
        target = (float(state.target_x[index]), float(state.target_y[index]))
        size = 1.12 * reach
        canvas = Canvas(400, 400, world=(-size, -size, size, size))
        canvas.circle((0, 0), reach, SILVER)
        canvas.circle((0, 0), 0.99 * reach, PAPER)
        canvas.circle(target, max(float(c.tolerance), 0.04 * reach), GREEN)
        elbow = (length1 * math.cos(shoulder), length1 * math.sin(shoulder))
        canvas.line([(0, 0), elbow], BLUE, width=0.1 * reach)
        canvas.line([elbow, (x, y)], SKY, width=0.08 * reach)
        for joint in ((0.0, 0.0), elbow):
            canvas.circle(joint, 0.045 * reach, INK)
            canvas.circle(joint, 0.018 * reach, PAPER)
        canvas.circle((x, y), 0.025 * reach, INK)
        return canvas.picture()
