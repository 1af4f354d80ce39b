"""CartPole: keep a pole upright on a cart by pushing the cart left or right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREY, INK, ORANGE, PAPER, RED, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.tree import columns


@dataclass
class CartPoleState:
    """Where the cart and its pole are."""

    x: Tensor  # (N,) m, the cart's place on the track, 0 in the middle
    x_dot: Tensor  # (N,) m/s
    theta: Tensor  # (N,) rad, the pole's angle, 0 upright, positive leaning to the right
    theta_dot: Tensor  # (N,) rad/s
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class CartPole(TensorEnv[CartPoleState]):
    """Gymnasium's CartPole-v1, step for step.

    Observation: (N, 4): x (m), x_dot (m/s), theta (rad), theta_dot (rad/s).
    Action: 1 pushes the cart to the right, 0 to the left.
    Reward: 1 in every step, the last one too.
    Episode end: the cart is more than 2.4 m off the middle, or the pole more than 12 degrees off upright.
    Source: Barto, Sutton and Anderson, "Neuronlike adaptive elements that can solve difficult learning control
        problems", 1983; Gymnasium 1.4, ``envs/classic_control/cartpole.py``.

    Every constant may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        masscart: Mass of the cart, kg.
        masspole: Mass of the pole, kg.
        length: Half the pole's length, m.
        force_mag: Strength of a push, N.
        tau: Time between two states, s.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` below 0, or another not above 0.
    """

    max_episode_steps = 500
    reward_threshold = 475.0
    render_fps = 50
    reset_interval = 8  # steps that the fastest fall takes

    x_threshold: ClassVar[float] = 2.4  # m
    theta_threshold_radians: ClassVar[float] = 12 * 2 * math.pi / 360

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.8,
        masscart: float | Sequence[float] = 1.0,
        masspole: float | Sequence[float] = 0.1,
        length: float | Sequence[float] = 0.5,
        force_mag: float | Sequence[float] = 10.0,
        tau: float | Sequence[float] = 0.02,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.masscart = self.constant("masscart", masscart, above=0, per_episode=True)
        self.masspole = self.constant("masspole", masspole, above=0, per_episode=True)
        self.length = self.constant("length", length, above=0, per_episode=True)
        self.force_mag = self.constant("force_mag", force_mag, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        # Twice the thresholds, so that the state that ends an episode is inside too.
        high = np.array([2 * self.x_threshold, np.inf, 2 * self.theta_threshold_radians, np.inf], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> CartPoleState:
        """All fields uniform in [-0.05, 0.05]."""
        start = torch.empty(4, n, device=self.device, dtype=self.dtype).uniform_(-0.05, 0.05, generator=rng)
        x, x_dot, theta, theta_dot = start.unbind()
        return CartPoleState(x, x_dot, theta, theta_dot, self.draw_constants(n, rng))

    def step(
        self, state: CartPoleState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CartPoleState, Tensor, Tensor]:
        """One Euler step of Florian, "Correct equations for the dynamics of the cart-pole system", 2007.

        Equations 23 and 24 without friction, in the order in which Gymnasium computes them, so that both agree
        to the last bits. ``addcmul(a, b, c)`` is ``a + b * c`` in one operation.
        """
        c = self.constants_of(state.drawn)
        total_mass = c.masspole + c.masscart
        polemass_length = c.masspole * c.length
        left = torch.rsub(action, 1, alpha=2)  # 1 - 2 * action: 1 to the left, -1 to the right
        cos, sin = state.theta.cos(), state.theta.sin()

        swing = polemass_length * state.theta_dot.square() * sin
        temp = torch.addcmul(swing, left, c.force_mag, value=-1) / total_mass
        theta_acc = torch.addcmul(c.gravity * sin, cos, temp, value=-1) / (
            c.length * (4.0 / 3.0 - c.masspole * cos.square() / total_mass)
        )
        x_acc = torch.addcdiv(temp, polemass_length * theta_acc * cos, total_mass, value=-1)

        after = CartPoleState(
            x=torch.addcmul(state.x, state.x_dot, c.tau),
            x_dot=torch.addcmul(state.x_dot, x_acc, c.tau),
            theta=torch.addcmul(state.theta, state.theta_dot, c.tau),
            theta_dot=torch.addcmul(state.theta_dot, theta_acc, c.tau),
            drawn=state.drawn,
        )
        terminated = (after.x.abs() > self.x_threshold) | (after.theta.abs() > self.theta_threshold_radians)
        return after, torch.ones_like(after.x), terminated

    def observe(self, state: CartPoleState) -> Tensor:
        """The state as one tensor (N, 4)."""
        return columns((state.x, state.x_dot, state.theta, state.theta_dot))

    def render(self, state: CartPoleState, index: int = 0) -> Tensor:
        """The cart on its track, (300, 600, 3) uint8."""
        x, theta = float(state.x[index]), float(state.theta[index])
        length = float(self.constants_of(state.drawn[index]).length)
        ground, axle = -0.14, 0.36  # m: the top of the track, and the pole's pivot
        canvas = Canvas(600, 300, world=(-2.8, -0.65, 2.8, max(2.15, axle + 2 * length + 0.2)))

        canvas.rectangle(-99, -99, 99, ground, SILVER)
        canvas.line([(-99, ground), (99, ground)], GREY, width=0.03)
        for edge in (-self.x_threshold, self.x_threshold):
            canvas.line([(edge, ground), (edge, ground + 0.4)], RED, width=0.05)
        canvas.line([(0, ground - 0.1), (0, ground - 0.2)], GREY, width=0.03)

        canvas.rectangle(x - 0.42, 0.02, x + 0.42, axle, BLUE, radius=0.07)
        for wheel in (x - 0.25, x + 0.25):
            canvas.circle((wheel, 0.0), 0.14, INK)
            canvas.circle((wheel, 0.0), 0.05, GREY)
        tip = (x + 2 * length * math.sin(theta), axle + 2 * length * math.cos(theta))
        canvas.line([(x, axle), tip], ORANGE, width=0.14)
        canvas.circle((x, axle), 0.1, INK)
        canvas.circle((x, axle), 0.04, PAPER)
        return canvas.picture()
