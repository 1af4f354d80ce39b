"""CartPole swing-up: pump a hanging pole up and keep it upright, on a track with ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, RED, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.envs.control.integrate import runge_kutta
from rltrain.tree import columns


@dataclass
class CartPoleSwingUpState:
    """Where the cart and its pole are."""

    x: Tensor  # (N,) m, the cart's place on the track, 0 in the middle
    x_dot: Tensor  # (N,) m/s
    theta: Tensor  # (N,) rad, the pole's angle, 0 upright, positive leaning to the right, not wrapped
    theta_dot: Tensor  # (N,) rad/s
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class CartPoleSwingUp(TensorEnv[CartPoleSwingUpState]):
    """Swing a pole up on a cart and hold it there, in the middle of a track.

    Observation: (N, 5): x / track, x_dot (m/s), cos(theta), sin(theta), theta_dot (rad/s), the speeds clipped at
        +-10 m/s and +-30 rad/s.
    Action: (N, 1) in [-1, 1]: the force on the cart as a share of ``force_mag``, positive to the right.
    Reward: a product of three factors of at most 1: (1 + cos(theta)) / 2, upright; 1 - (x / track)^2 / 2, in the
        middle; and (1 + exp(-theta_dot^2 / 10)) / 2, at rest. At most 1 in a step, about 0.25 or less while the pole
        hangs.
    Episode end: the cart runs off the track, which costs 10.
    Source: equations 23 and 24 of Florian, "Correct equations for the dynamics of the cart-pole system", 2007, without
        friction; the reward after the task ``swingup`` of Tassa et al., "DeepMind Control Suite", 2018,
        arXiv:1801.00690.
    Baseline: energy pumping (Åström and Furuta, "Swinging up a pendulum by energy control", 2000), and a linear
        feedback near the top.

    Every constant may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        masscart: Mass of the cart, kg.
        masspole: Mass of the pole, kg.
        length: Half the pole's length, m.
        force_mag: Largest force, N.
        track: Half the length of the track, m.
        tau: Time between two states, s.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` below 0, or another not above 0.
    """

    max_episode_steps = 500
    render_fps = 50

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.81,
        masscart: float | Sequence[float] = 1.0,
        masspole: float | Sequence[float] = 0.1,
        length: float | Sequence[float] = 0.5,
        force_mag: float | Sequence[float] = 10.0,
        track: float | Sequence[float] = 2.4,
        tau: float | Sequence[float] = 0.02,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.masscart = self.constant("masscart", masscart, above=0, per_episode=True)
        self.masspole = self.constant("masspole", masspole, above=0, per_episode=True)
        self.length = self.constant("length", length, above=0, per_episode=True)
        self.force_mag = self.constant("force_mag", force_mag, above=0, per_episode=True)
        self.track = self.constant("track", track, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        high = np.array([2, 10, 1, 1, 30], dtype=np.float32)
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(self, n: int, rng: torch.Generator | None) -> CartPoleSwingUpState:
        """Hanging near the middle: everything within 0.1 of rest."""
        x, x_dot, theta, theta_dot = (
            torch.empty(4, n, device=self.device, dtype=self.dtype).uniform_(-0.1, 0.1, generator=rng).unbind()
        )
        return CartPoleSwingUpState(x, x_dot, theta + math.pi, theta_dot, self.draw_constants(n, rng))

    def step(
        self, state: CartPoleSwingUpState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CartPoleSwingUpState, Tensor, Tensor]:
        """One Runge-Kutta step under a constant force."""
        c = self.constants_of(state.drawn)
        force = action.squeeze(-1).to(self.dtype).clamp(-1, 1) * c.force_mag
        total_mass = c.masspole + c.masscart
        polemass_length = c.masspole * c.length

        def rates(y: Tensor) -> Tensor:
            _, x_dot, theta, theta_dot = y.unbind()
            cos, sin = theta.cos(), theta.sin()
            push = (force + polemass_length * theta_dot.square() * sin) / total_mass
            theta_acc = (c.gravity * sin - cos * push) / (
                c.length * (4.0 / 3.0 - c.masspole * cos.square() / total_mass)
            )
            x_acc = push - polemass_length * theta_acc * cos / total_mass
            return torch.stack((x_dot, x_acc, theta_dot, theta_acc))

        y = torch.stack((state.x, state.x_dot, state.theta, state.theta_dot))
        after = CartPoleSwingUpState(*runge_kutta(rates, y, c.tau).unbind(), drawn=state.drawn)  # type: ignore[misc]

        off = after.x.abs() > c.track
        upright = (1 + after.theta.cos()) / 2
        middle = 1 - (after.x / c.track).square() / 2
        at_rest = (1 + (-after.theta_dot.square() / 10).exp()) / 2
        return after, torch.where(off, -10.0, upright * middle * at_rest), off

    def observe(self, state: CartPoleSwingUpState) -> Tensor:
        """(N, 5)."""
        c = self.constants_of(state.drawn)
        parts = (
            (state.x / c.track).clamp(-2, 2),
            state.x_dot.clamp(-10, 10),
            state.theta.cos(),
            state.theta.sin(),
            state.theta_dot.clamp(-30, 30),
        )
        return columns(parts)

    def baseline(self, state: CartPoleSwingUpState) -> Tensor:
        """Pumps energy into the pole while it is down, and balances it once it has come up."""
        c = self.constants_of(state.drawn)
        theta = torch.remainder(state.theta + math.pi, 2 * math.pi) - math.pi
        swing = c.length * state.theta_dot.square() / 1.5 - c.gravity * (1 - theta.cos())  # m^2/s^2, 0 at the top
        pump = 0.5 * swing * (state.theta_dot * theta.cos()).sign() - 6 * state.x - state.x_dot
        hold = 30 * theta + 5 * state.theta_dot + 1.2 * state.x + 2.4 * state.x_dot
        force = torch.where(theta.abs() < 0.4, hold, pump)
        return (force / c.force_mag).clamp(-1, 1).unsqueeze(-1)

    def render(self, state: CartPoleSwingUpState, index: int = 0) -> Tensor:
        """The cart on its track, (360, 600, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        x, theta, length, track = (float(value) for value in (state.x[index], state.theta[index], c.length, c.track))
        reach = 2 * length
        canvas = Canvas(600, 360, world=(-track - 0.4, -reach - 0.25, track + 0.4, reach + 0.25))
        canvas.line([(-track, 0), (track, 0)], GREY, width=0.05)
        for end in (-track, track):
            canvas.line([(end, -0.2), (end, 0.2)], RED, width=0.06)
        canvas.line([(-0.18, reach), (0.18, reach)], GREEN, width=0.04)
        canvas.rectangle(x - 0.25, -0.12, x + 0.25, 0.12, BLUE, radius=0.05)
        tip = (x + reach * math.sin(theta), reach * math.cos(theta))
        canvas.line([(x, 0), tip], ORANGE, width=0.1)
        canvas.circle(tip, 0.08, ORANGE)
        canvas.circle((x, 0), 0.07, INK)
        canvas.circle((x, 0), 0.03, PAPER)
        canvas.line([(x, -0.12), (x, -0.16)], SILVER, width=0.02)
        return canvas.picture()
