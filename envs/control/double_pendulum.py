"""Double pendulum: keep two rods, one upon the other, upright on a cart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, RED, YELLOW, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.control.integrate import runge_kutta
from rltrain.tree import columns

# Of the regulator for the default constants, weights 5, 10, 10, 1, 1, 1 on the state and 0.1 on the force:
# N per m, rad, rad, m/s, rad/s and rad/s.
GAINS = (-5.1, 140.8, -185.6, -8.1, 1.1, -26.6)


@dataclass
class DoublePendulumState:
    """Where the cart and its rods are. Angles are from upright, positive leaning to the right, not wrapped."""

    x: Tensor  # (N,) m, the cart's place on the track, 0 in the middle
    theta1: Tensor  # (N,) rad, the lower rod
    theta2: Tensor  # (N,) rad, the upper rod, also from upright
    x_dot: Tensor  # (N,) m/s
    theta1_dot: Tensor  # (N,) rad/s
    theta2_dot: Tensor  # (N,) rad/s
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class DoublePendulum(TensorEnv[DoublePendulumState]):
    """Balance a double pendulum of two uniform rods on a cart by pushing the cart.

    Observation: (N, 8): x / track, cos and sin of theta1, cos and sin of theta2, x_dot (m/s), theta1_dot and
        theta2_dot (rad/s); speeds clipped at +-10 m/s and +-20 rad/s.
    Action: (N, 1) in [-1, 1]: the force on the cart as a share of ``force_mag``, positive to the right.
    Reward: 1 - 0.1 (x / track)^2 - 0.001 (theta1_dot^2 + theta2_dot^2), the speeds at most 20 rad/s, in every step.
    Episode end: the tip is lower than ``fall`` of the height it has when both rods are upright, or the cart runs off
        the track.
    Source: Lagrange's equations of a cart with two uniform rods, as in Bogdanov, "Optimal control of a double
        inverted pendulum on a cart", 2004, equations 8 to 13; the task after Gymnasium's InvertedDoublePendulum.
    Baseline: linear feedback of the state, the gains of a linear-quadratic regulator for the default constants.

    Every constant but ``fall`` may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        masscart: Mass of the cart, kg.
        mass1: Mass of the lower rod, kg.
        mass2: Mass of the upper rod, kg.
        length1: Length of the lower rod, m.
        length2: Length of the upper rod, m.
        force_mag: Largest force, N.
        track: Half the length of the track, m.
        tau: Time between two states, s.
        start: Largest angle of the rods at the start, rad.
        fall: Share of the full height below which the pendulum has fallen.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` or ``start`` below 0, ``fall`` not in [-1, 1], or another
            not above 0.
    """

    max_episode_steps = 500
    reward_threshold = 450.0
    render_fps = 50

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.81,
        masscart: float | Sequence[float] = 1.0,
        mass1: float | Sequence[float] = 0.2,
        mass2: float | Sequence[float] = 0.2,
        length1: float | Sequence[float] = 0.6,
        length2: float | Sequence[float] = 0.6,
        force_mag: float | Sequence[float] = 20.0,
        track: float | Sequence[float] = 2.4,
        tau: float | Sequence[float] = 0.02,
        start: float | Sequence[float] = 0.1,
        fall: float = 0.8,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.masscart = self.constant("masscart", masscart, above=0, per_episode=True)
        self.mass1 = self.constant("mass1", mass1, above=0, per_episode=True)
        self.mass2 = self.constant("mass2", mass2, above=0, per_episode=True)
        self.length1 = self.constant("length1", length1, above=0, per_episode=True)
        self.length2 = self.constant("length2", length2, above=0, per_episode=True)
        self.force_mag = self.constant("force_mag", force_mag, above=0, per_episode=True)
        self.track = self.constant("track", track, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        self.start = self.constant("start", start, at_least=0, per_episode=True)
        self.fall = self.constant("fall", fall, at_least=-1, at_most=1)
        high = np.array([2, 1, 1, 1, 1, 10, 20, 20], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)
        self._gains = torch.tensor(GAINS, device=self.device, dtype=self.dtype)

    def reset(self, n: int, rng: torch.Generator | None) -> DoublePendulumState:
        """The cart within 0.1 m of the middle, the rods within ``start`` of upright, rates within 0.1 of rest."""
        drawn = self.draw_constants(n, rng)
        start = self.constants_of(drawn).start
        near = torch.empty(6, n, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng)
        x, theta1, theta2, x_dot, theta1_dot, theta2_dot = near.unbind()
        return DoublePendulumState(
            0.1 * x, start * theta1, start * theta2, 0.1 * x_dot, 0.1 * theta1_dot, 0.1 * theta2_dot, drawn
        )

    def step(
        self, state: DoublePendulumState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[DoublePendulumState, Tensor, Tensor]:
        """One Runge-Kutta step under a constant force."""
        c = self.constants_of(state.drawn)
        force = action.squeeze(-1).to(self.dtype).clamp(-1, 1) * c.force_mag
        # The symmetric mass matrix is [[a, b cos1, d cos2], [., e, f cos12], [., ., h]].
        a = c.masscart + c.mass1 + c.mass2
        b = (c.mass1 / 2 + c.mass2) * c.length1
        d = c.mass2 * c.length2 / 2
        e = (c.mass1 / 3 + c.mass2) * c.length1.square()
        f = d * c.length1
        h = c.mass2 * c.length2.square() / 3

        def rates(y: Tensor) -> Tensor:
            _, theta1, theta2, x_dot, theta1_dot, theta2_dot = y.unbind()
            cos1, sin1, cos2, sin2 = theta1.cos(), theta1.sin(), theta2.cos(), theta2.sin()
            cos12, sin12 = cos1 * cos2 + sin1 * sin2, sin1 * cos2 - cos1 * sin2
            square1, square2 = theta1_dot.square(), theta2_dot.square()
            m01, m02, m12 = b * cos1, d * cos2, f * cos12
            r0 = force + b * sin1 * square1 + d * sin2 * square2
            r1 = c.gravity * b * sin1 - f * sin12 * square2
            r2 = c.gravity * d * sin2 + f * sin12 * square1
            # Cramer's rule, by the cofactors of the mass matrix
            c00, c01, c02 = e * h - m12.square(), m02 * m12 - m01 * h, m01 * m12 - m02 * e
            c11, c12, c22 = a * h - m02.square(), m01 * m02 - a * m12, a * e - m01.square()
            determinant = a * c00 + m01 * c01 + m02 * c02
            x_acc = (c00 * r0 + c01 * r1 + c02 * r2) / determinant
            theta1_acc = (c01 * r0 + c11 * r1 + c12 * r2) / determinant
            theta2_acc = (c02 * r0 + c12 * r1 + c22 * r2) / determinant
            return torch.stack((x_dot, theta1_dot, theta2_dot, x_acc, theta1_acc, theta2_acc))

        y = torch.stack((state.x, state.theta1, state.theta2, state.x_dot, state.theta1_dot, state.theta2_dot))
        after = DoublePendulumState(*runge_kutta(rates, y, c.tau).unbind(), drawn=state.drawn)  # type: ignore[misc]

        height = c.length1 * after.theta1.cos() + c.length2 * after.theta2.cos()
        terminated = (height < self.fall * (c.length1 + c.length2)) | (after.x.abs() > c.track)
        speeds = after.theta1_dot.clamp(-20, 20).square() + after.theta2_dot.clamp(-20, 20).square()
        reward = 1 - 0.1 * (after.x / c.track).square() - 0.001 * speeds
        return after, reward, terminated

    def observe(self, state: DoublePendulumState) -> Tensor:
        """(N, 8)."""
        c = self.constants_of(state.drawn)
        parts = (
            (state.x / c.track).clamp(-2, 2),
            state.theta1.cos(),
            state.theta1.sin(),
            state.theta2.cos(),
            state.theta2.sin(),
            state.x_dot.clamp(-10, 10),
            state.theta1_dot.clamp(-20, 20),
            state.theta2_dot.clamp(-20, 20),
        )
        return columns(parts)

    def baseline(self, state: DoublePendulumState) -> Tensor:
        """The regulator's force, (N, 1)."""
        motion = (state.x, state.theta1, state.theta2, state.x_dot, state.theta1_dot, state.theta2_dot)
        force = torch.stack(motion, dim=-1) @ self._gains
        return (force / self.constants_of(state.drawn).force_mag).clamp(-1, 1).unsqueeze(-1)

    def render(self, state: DoublePendulumState, index: int = 0) -> Tensor:
        """The cart on its track and its rods, (360, 600, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        x, theta1, theta2 = (float(value[index]) for value in (state.x, state.theta1, state.theta2))
        length1, length2, track = float(c.length1), float(c.length2), float(c.track)
        reach = length1 + length2
        canvas = Canvas(600, 360, world=(-track - 0.4, -0.5, track + 0.4, max(reach + 0.3, 2.2)))
        canvas.line([(-track, 0), (track, 0)], GREY, width=0.05)
        for end in (-track, track):
            canvas.line([(end, -0.2), (end, 0.2)], RED, width=0.06)
        lowest = float(self.fall) * reach
        canvas.line([(-track, lowest), (track, lowest)], "#c8463e40", width=0.02)
        canvas.line([(-0.2, reach), (0.2, reach)], GREEN, width=0.04)
        canvas.rectangle(x - 0.25, -0.12, x + 0.25, 0.12, BLUE, radius=0.05)
        elbow = (x + length1 * math.sin(theta1), length1 * math.cos(theta1))
        tip = (elbow[0] + length2 * math.sin(theta2), elbow[1] + length2 * math.cos(theta2))
        canvas.line([(x, 0), elbow], ORANGE, width=0.1)
        canvas.line([elbow, tip], YELLOW, width=0.1)
        for joint in ((x, 0.0), elbow):
            canvas.circle(joint, 0.07, INK)
            canvas.circle(joint, 0.03, PAPER)
        return canvas.picture()
