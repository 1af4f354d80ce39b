"""Planar quadrotor: hover at a point, or fly after one that moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.control.integrate import runge_kutta
from rltrain.tree import columns

FAR = 3.0  # m off the reference at which a flight has failed


@dataclass
class QuadrotorState:
    """Where the quadrotor is, and the phase of its reference."""

    x: Tensor  # (N,) m, to the right
    z: Tensor  # (N,) m, upwards
    theta: Tensor  # (N,) rad, pitch, positive counter-clockwise, not wrapped
    x_dot: Tensor  # (N,) m/s
    z_dot: Tensor  # (N,) m/s
    theta_dot: Tensor  # (N,) rad/s
    phase: Tensor  # (N,) rad, of the reference on its path
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class Quadrotor(TensorEnv[QuadrotorState]):
    """Keep a quadrotor, seen from the side, at a reference that rests or flies a figure of eight.

    Observation: (N, 7 + 2 ``lookahead``): the way to the reference (x, z in m), the velocity relative to it (m/s,
        clipped at +-10), cos and sin of the pitch, the pitch rate (rad/s, clipped at +-20), and the ways to where the
        reference will be after 0.2 s, 0.4 s, ... (m, clipped at +-6).
    Action: (N, 2) in [-1, 1]: the thrusts of the right and the left rotor, from 0 to ``max_thrust``.
    Reward: 1 / (1 + 4 d^2) with the distance d to the reference in m, minus 0.002 times the squared pitch rate.
    Episode end: the distance is more than 3 m, or the pitch more than 90 degrees.
    Source: Tedrake, "Underactuated Robotics", 2023, chapter 3, the planar quadrotor.
    Baseline: proportional-derivative control of the position by way of the pitch, with the reference's acceleration.

    Every constant but ``lookahead`` may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        mass: Mass of the quadrotor, kg.
        inertia: Moment of inertia about the pitch axis, kg m^2.
        arm: Distance of a rotor from the middle, m.
        max_thrust: Largest thrust of a rotor, N.
        drag: Force of the air against the motion, N s/m.
        path_width: Half the width of the reference's figure of eight, m; 0 for a reference at rest.
        path_height: Half its height, m.
        period: Time for the whole figure, s.
        lookahead: Number of future positions of the reference in the observation.
        tau: Time between two states, s.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity``, ``drag``, ``path_width``, ``path_height`` or
            ``lookahead`` below 0, or another not above 0.
    """

    max_episode_steps = 250
    render_fps = 25

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.81,
        mass: float | Sequence[float] = 0.5,
        inertia: float | Sequence[float] = 0.005,
        arm: float | Sequence[float] = 0.2,
        max_thrust: float | Sequence[float] = 5.0,
        drag: float | Sequence[float] = 0.05,
        path_width: float | Sequence[float] = 0.0,
        path_height: float | Sequence[float] = 0.0,
        period: float | Sequence[float] = 6.0,
        lookahead: int = 0,
        tau: float | Sequence[float] = 0.04,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.mass = self.constant("mass", mass, above=0, per_episode=True)
        self.inertia = self.constant("inertia", inertia, above=0, per_episode=True)
        self.arm = self.constant("arm", arm, above=0, per_episode=True)
        self.max_thrust = self.constant("max_thrust", max_thrust, above=0, per_episode=True)
        self.drag = self.constant("drag", drag, at_least=0, per_episode=True)
        self.path_width = self.constant("path_width", path_width, at_least=0, per_episode=True)
        self.path_height = self.constant("path_height", path_height, at_least=0, per_episode=True)
        self.period = self.constant("period", period, above=0, per_episode=True)
        self.lookahead = self.whole("lookahead", lookahead, at_least=0, at_most=50)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        high = np.array([6, 6, 10, 10, 1, 1, 20] + [6, 6] * self.lookahead, dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> QuadrotorState:
        """Within 1 m of the reference, which is anywhere on its path; pitch and rates within 0.5."""
        drawn = self.draw_constants(n, rng)
        near = torch.empty(7, n, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng)
        x, z, theta, x_dot, z_dot, theta_dot, phase = near.unbind()
        phase = math.pi * phase
        there_x, there_z = self.reference(phase, drawn)
        return QuadrotorState(there_x + x, there_z + z, theta / 2, x_dot / 2, z_dot / 2, theta_dot / 2, phase, drawn)

    def step(
        self, state: QuadrotorState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[QuadrotorState, Tensor, Tensor]:
        """One Runge-Kutta step under constant thrusts."""
        c = self.constants_of(state.drawn)
        share = (action.to(self.dtype).clamp(-1, 1) + 1) / 2
        right, left = (share * c.max_thrust.unsqueeze(-1)).unbind(-1)
        lift = (right + left) / c.mass
        theta_acc = c.arm * (right - left) / c.inertia
        slowing = c.drag / c.mass

        def rates(y: Tensor) -> Tensor:
            _, _, theta, x_dot, z_dot, theta_dot = y.unbind()
            x_acc = -lift * theta.sin() - slowing * x_dot
            z_acc = lift * theta.cos() - c.gravity - slowing * z_dot
            return torch.stack((x_dot, z_dot, theta_dot, x_acc, z_acc, theta_acc))

        y = torch.stack((state.x, state.z, state.theta, state.x_dot, state.z_dot, state.theta_dot))
        phase = state.phase + 2 * math.pi * c.tau / c.period
        moved = runge_kutta(rates, y, c.tau).unbind()
        after = QuadrotorState(*moved, phase=phase, drawn=state.drawn)  # type: ignore[misc]

        there_x, there_z = self.reference(after.phase, state.drawn)
        square = (there_x - after.x).square() + (there_z - after.z).square()
        terminated = (square > FAR**2) | (after.theta.abs() > math.pi / 2)
        reward = 1 / (1 + 4 * square) - 0.002 * after.theta_dot.clamp(-20, 20).square()
        return after, reward, terminated

    def reference(self, phase: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Where the reference is, m: x and z (N,). A figure of eight, as Gerono's lemniscate."""
        c = self.constants_of(drawn)
        return c.path_width * phase.sin(), c.path_height * (2 * phase).sin()

    def observe(self, state: QuadrotorState) -> Tensor:
        """(N, 7 + 2 ``lookahead``)."""
        c = self.constants_of(state.drawn)
        rate = 2 * math.pi / c.period  # rad/s
        there_x, there_z = self.reference(state.phase, state.drawn)
        their_x_dot = c.path_width * rate * state.phase.cos()
        their_z_dot = 2 * c.path_height * rate * (2 * state.phase).cos()
        parts = [
            (there_x - state.x).clamp(-6, 6),
            (there_z - state.z).clamp(-6, 6),
            (state.x_dot - their_x_dot).clamp(-10, 10),
            (state.z_dot - their_z_dot).clamp(-10, 10),
            state.theta.cos(),
            state.theta.sin(),
            state.theta_dot.clamp(-20, 20),
        ]
        for k in range(1, self.lookahead + 1):
            later_x, later_z = self.reference(state.phase + 0.2 * k * rate, state.drawn)
            parts += [(later_x - state.x).clamp(-6, 6), (later_z - state.z).clamp(-6, 6)]
        return columns(parts)

    def info(self, state: QuadrotorState) -> dict[str, Tensor]:
        """Whether the reference is within 0.2 m."""
        there_x, there_z = self.reference(state.phase, state.drawn)
        return {"is_success": torch.hypot(there_x - state.x, there_z - state.z) < 0.2}

    def baseline(self, state: QuadrotorState) -> Tensor:
        """(N, 2): the thrusts that turn the wanted acceleration into lift and pitch."""
        c = self.constants_of(state.drawn)
        rate = 2 * math.pi / c.period
        there_x, there_z = self.reference(state.phase, state.drawn)
        x_dot = state.x_dot - c.path_width * rate * state.phase.cos()
        z_dot = state.z_dot - 2 * c.path_height * rate * (2 * state.phase).cos()
        x_acc = 4 * (there_x - state.x) - 3.5 * x_dot - rate.square() * there_x
        z_acc = 8 * (there_z - state.z) - 5 * z_dot - 4 * rate.square() * there_z
        pitch = (-x_acc / c.gravity).clamp(-0.6, 0.6)
        lift = c.mass * (c.gravity + z_acc) / state.theta.cos().clamp(min=0.5)
        turn = c.inertia * (80 * (pitch - state.theta) - 16 * state.theta_dot) / c.arm
        thrusts = torch.stack((lift + turn, lift - turn), dim=-1) / 2
        return (2 * thrusts / c.max_thrust.unsqueeze(-1) - 1).clamp(-1, 1)

    def render(self, state: QuadrotorState, index: int = 0) -> Tensor:
        """The quadrotor and its reference from the side, (400, 500, 3) uint8."""
        drawn = state.drawn[index]
        c = self.constants_of(drawn)
        x, z, theta = (float(part[index]) for part in (state.x, state.z, state.theta))
        target_x, target_z = (float(part) for part in self.reference(state.phase[index], drawn))
        canvas = Canvas(500, 400, world=(-3.2, -2.56, 3.2, 2.56))
        for k in range(-3, 4):
            canvas.line([(k, -9), (k, 9)], SILVER, width=0.015)
            canvas.line([(-9, k), (9, k)], SILVER, width=0.015)
        if float(c.path_width) > 0 or float(c.path_height) > 0:
            phases = torch.linspace(-math.pi, math.pi, 97, device=self.device, dtype=self.dtype)
            path = self.reference(phases, drawn.expand(97, -1))
            canvas.line(list(zip(*(part.tolist() for part in path), strict=True)), GREY, width=0.03)
        canvas.circle((target_x, target_z), 0.12, GREEN)
        canvas.line([(x, z), (target_x, target_z)], "#4f9d6950", width=0.03)

        def on_body(along: float, above: float) -> tuple[float, float]:
            cos, sin = math.cos(theta), math.sin(theta)
            return x + cos * along - sin * above, z + sin * along + cos * above

        arm = 1.6 * float(c.arm)
        canvas.line([on_body(-arm, 0), on_body(arm, 0)], BLUE, width=0.1)
        for side in (-arm, arm):
            canvas.line([on_body(side, 0), on_body(side, 0.12)], INK, width=0.05)
            canvas.line([on_body(side - 0.2, 0.14), on_body(side + 0.2, 0.14)], ORANGE, width=0.05)
        canvas.circle((x, z), 0.1, INK)
        return canvas.picture()
