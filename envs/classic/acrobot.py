"""Acrobot: swing the tip of a two-link arm up, with a motor at the elbow alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, ORANGE, PAPER, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.tree import columns


@dataclass
class AcrobotState:
    """Where the arm is."""

    theta1: Tensor  # (N,) rad, the upper link's angle, 0 hanging down, counter-clockwise, in [-pi, pi]
    theta2: Tensor  # (N,) rad, the lower link's angle against the upper one, in [-pi, pi]
    theta1_dot: Tensor  # (N,) rad/s
    theta2_dot: Tensor  # (N,) rad/s
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class Acrobot(TensorEnv[AcrobotState]):
    """Gymnasium's Acrobot-v1, step for step.

    Observation: (N, 6): cos(theta1), sin(theta1), cos(theta2), sin(theta2), theta1_dot (rad/s), theta2_dot (rad/s).
    Action: 0 turns the elbow clockwise, 2 counter-clockwise, with ``torque``; 1 leaves it alone.
    Reward: -1 in every step but the one that ends the episode, which gives 0.
    Episode end: -cos(theta1) - cos(theta1 + theta2) > 1: the tip of links of 1 m is 1 m above the shoulder.
    Source: Sutton, "Generalization in Reinforcement Learning: Successful Examples Using Sparse Coarse Coding", 1996;
        Sutton and Barto, "Reinforcement Learning: An Introduction", 1998, section 11.3; Gymnasium 1.4,
        ``envs/classic_control/acrobot.py``.
    Baseline: turns the elbow the way it is turning, so that the motor always adds energy.

    Every constant but the two largest velocities may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        dt: Time between two states, s.
        gravity: Acceleration of free fall, m/s^2.
        link_length_1: Length of the upper link, m.
        link_mass_1: Mass of the upper link, kg.
        link_mass_2: Mass of the lower link, kg.
        link_com_pos_1: From the shoulder to the upper link's centre of mass, m.
        link_com_pos_2: From the elbow to the lower link's centre of mass, m.
        link_moi: Moment of inertia of each link about its centre of mass, kg m^2.
        max_vel_1: Largest ``theta1_dot``, rad/s.
        max_vel_2: Largest ``theta2_dot``, rad/s.
        torque: The motor's torque, N m.
        torque_noise_max: Bound of the uniform error of the torque, N m.
        equations: ``"book"``, or ``"nips"`` for the paper's, which lack a term.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` or ``torque_noise_max`` below 0, another number not above
            0, or ``equations`` not known.
    """

    max_episode_steps = 500
    reward_threshold = -100.0
    render_fps = 15
    reset_interval = 8  # no swing up is faster

    def __init__(
        self,
        *,
        dt: float | Sequence[float] = 0.2,
        gravity: float | Sequence[float] = 9.8,
        link_length_1: float | Sequence[float] = 1.0,
        link_mass_1: float | Sequence[float] = 1.0,
        link_mass_2: float | Sequence[float] = 1.0,
        link_com_pos_1: float | Sequence[float] = 0.5,
        link_com_pos_2: float | Sequence[float] = 0.5,
        link_moi: float | Sequence[float] = 1.0,
        max_vel_1: float = 4 * math.pi,
        max_vel_2: float = 9 * math.pi,
        torque: float | Sequence[float] = 1.0,
        torque_noise_max: float | Sequence[float] = 0.0,
        equations: str = "book",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.dt = self.constant("dt", dt, above=0, per_episode=True)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.link_length_1 = self.constant("link_length_1", link_length_1, above=0, per_episode=True)
        self.link_mass_1 = self.constant("link_mass_1", link_mass_1, above=0, per_episode=True)
        self.link_mass_2 = self.constant("link_mass_2", link_mass_2, above=0, per_episode=True)
        self.link_com_pos_1 = self.constant("link_com_pos_1", link_com_pos_1, above=0, per_episode=True)
        self.link_com_pos_2 = self.constant("link_com_pos_2", link_com_pos_2, above=0, per_episode=True)
        self.link_moi = self.constant("link_moi", link_moi, above=0, per_episode=True)
        self.max_vel_1 = self.constant("max_vel_1", max_vel_1, above=0)
        self.max_vel_2 = self.constant("max_vel_2", max_vel_2, above=0)
        self.torque = self.constant("torque", torque, above=0, per_episode=True)
        self.torque_noise_max = self.constant("torque_noise_max", torque_noise_max, at_least=0, per_episode=True)
        self.equations = self.choice("equations", equations, ("book", "nips"))
        high = np.array([1.0, 1.0, 1.0, 1.0, max_vel_1, max_vel_2], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, n: int, rng: torch.Generator | None) -> AcrobotState:
        """All fields uniform in [-0.1, 0.1]."""
        start = torch.empty(4, n, device=self.device, dtype=self.dtype).uniform_(-0.1, 0.1, generator=rng)
        theta1, theta2, theta1_dot, theta2_dot = start.unbind()
        return AcrobotState(theta1, theta2, theta1_dot, theta2_dot, self.draw_constants(n, rng))

    def step(
        self, state: AcrobotState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[AcrobotState, Tensor, Tensor]:
        """One Runge-Kutta step of fourth order; angles are then wrapped and velocities bounded."""
        c = self.constants_of(state.drawn)
        noise = torch.rand(action.shape, generator=rng, device=self.device, dtype=self.dtype) * 2 - 1
        torque = (action - 1) * c.torque + noise * c.torque_noise_max
        slope = self._equations_of_motion(c, torque)
        y = torch.stack((state.theta1, state.theta2, state.theta1_dot, state.theta2_dot))
        k1 = slope(y)
        k2 = slope(torch.addcmul(y, k1, c.dt, value=0.5))
        k3 = slope(torch.addcmul(y, k2, c.dt, value=0.5))
        k4 = slope(torch.addcmul(y, k3, c.dt))
        y = torch.addcmul(y, torch.add(k1 + k4, k2 + k3, alpha=2), c.dt, value=1 / 6)

        turns = (y[:2] / (2 * math.pi)).round()
        theta1, theta2 = torch.sub(y[:2], turns, alpha=2 * math.pi).unbind()
        theta1_dot = y[2].clamp(-self.max_vel_1, self.max_vel_1)
        theta2_dot = y[3].clamp(-self.max_vel_2, self.max_vel_2)
        after = AcrobotState(theta1, theta2, theta1_dot, theta2_dot, state.drawn)
        terminated = theta1.cos() + (theta1 + theta2).cos() < -1
        return after, terminated.to(self.dtype) - 1, terminated

    def _equations_of_motion(self, c: Any, torque: Tensor) -> Callable[[Tensor], Tensor]:
        """The time derivative (4, N) as a function of the state (4, N).

        d1, d2, phi1 and phi2 are those of Sutton (1996), figure 4, d1 with the other sign. Terms that do not change
        during a step are computed outside. ``addcmul(a, b, c)`` is ``a + b * c`` in one operation.
        """
        inertia2 = c.link_mass_2 * c.link_com_pos_2.square() + c.link_moi
        inertia1 = c.link_mass_1 * c.link_com_pos_1.square() + c.link_mass_2 * c.link_length_1.square() + c.link_moi
        minus_both = -(inertia1 + inertia2)
        coupling = c.link_mass_2 * c.link_length_1 * c.link_com_pos_2
        weight1 = (c.link_mass_1 * c.link_com_pos_1 + c.link_mass_2 * c.link_length_1) * c.gravity
        weight2 = c.link_mass_2 * c.link_com_pos_2 * c.gravity

        def slope(y: Tensor) -> Tensor:
            theta1, theta2, theta1_dot, theta2_dot = y.unbind()
            bend, pull = coupling * theta2.cos(), coupling * theta2.sin()
            minus_d1 = torch.sub(minus_both, bend, alpha=2)
            d2 = inertia2 + bend
            phi2 = weight2 * (theta1 + theta2).sin()
            phi1 = torch.addcmul(phi2, weight1, theta1.sin())
            phi1 = torch.addcmul(phi1, pull * theta2_dot, torch.add(theta2_dot, theta1_dot, alpha=2), value=-1)
            ratio = d2 / minus_d1
            drive = torch.addcmul(torque - phi2, ratio, phi1, value=-1)
            if self.equations == "book":
                drive = torch.addcmul(drive, pull, theta1_dot.square(), value=-1)
            theta2_acc = drive / torch.addcmul(inertia2, ratio, d2)
            theta1_acc = torch.addcmul(phi1 / minus_d1, ratio, theta2_acc)
            return torch.stack((theta1_dot, theta2_dot, theta1_acc, theta2_acc))

        return slope

    def observe(self, state: AcrobotState) -> Tensor:
        """Cosine and sine of both angles, and both velocities: (N, 6)."""
        theta1, theta2 = state.theta1, state.theta2
        parts = (theta1.cos(), theta1.sin(), theta2.cos(), theta2.sin(), state.theta1_dot, state.theta2_dot)
        return columns(parts)

    def baseline(self, state: AcrobotState) -> Tensor:
        """(N,): clockwise where the elbow turns clockwise, else counter-clockwise."""
        return torch.where(state.theta2_dot < 0, 0, 2)

    def render(self, state: AcrobotState, index: int = 0) -> Tensor:
        """The arm, the height to reach, and arrows as long as the joints turn in 0.2 s, (500, 500, 3) uint8.

        The lower link is drawn twice as long as its centre of mass is from the elbow.
        """
        c = self.constants_of(state.drawn[index])
        upper, lower = float(c.link_length_1), 2 * float(c.link_com_pos_2)
        angle1 = float(state.theta1[index]) - math.pi / 2  # theta counts from hanging down, the canvas from the x axis
        angle2 = angle1 + float(state.theta2[index])
        elbow = (upper * math.cos(angle1), upper * math.sin(angle1))
        tip = (elbow[0] + lower * math.cos(angle2), elbow[1] + lower * math.sin(angle2))
        size = max(1.1, 1.1 * (upper + lower))
        canvas = Canvas(500, 500, world=(-size, -size, size, size))

        canvas.circle((0, 0), upper + lower + 0.005 * size, SILVER)  # as far as the tip can reach: a ring
        canvas.circle((0, 0), upper + lower - 0.005 * size, PAPER)
        for i in range(-20, 20):
            canvas.line([(i * size / 19, 1.0), ((i + 0.5) * size / 19, 1.0)], GREEN, width=0.014 * size)
        canvas.line([(0, 0), elbow], BLUE, width=0.09 * size)
        canvas.line([elbow, tip], ORANGE, width=0.09 * size)
        for joint, angle, velocity, color in (
            ((0.0, 0.0), angle1, float(state.theta1_dot[index]), BLUE),
            (elbow, angle2, float(state.theta2_dot[index]), ORANGE),
        ):
            canvas.circle(joint, 0.035 * size, INK)
            canvas.circle(joint, 0.014 * size, PAPER)
            turn = 0.2 * velocity
            if abs(turn) > 0.1:
                start = angle + math.copysign(0.35, turn)
                canvas.arc(joint, 0.2 * size, start, start + turn, color, width=0.02 * size, head=0.07 * size)
        return canvas.picture()
