"""MountainCarContinuous: rock out of a valley with as little force as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.envs.classic.hill import CarState, Hill


class MountainCarContinuous(Hill):
    """Gymnasium's MountainCarContinuous-v0, step for step.

    Gymnasium rounds the state to float32 after each step; here it stays as precise as ``dtype``.

    Observation: (N, 2): position (m), velocity (m/step).
    Action: (N, 1): the push as a share of ``power``, positive to the right, clipped to [-1, 1].
    Reward: -0.1 times the square of the action, as it is before it is clipped, and 100 on arrival.
    Episode end: the car is at ``goal_position`` or beyond, no slower than ``goal_velocity``.
    Source: Moore, "Efficient Memory-based Learning for Robot Control", 1990; Gymnasium 1.4,
        ``envs/classic_control/continuous_mountain_car.py``.
    Baseline: pushes with full power the way the car rolls, so that the motor always adds energy.

    The goal, ``power`` and ``gravity`` may be ranges ``[low, high]``, drawn anew for each episode.

    Args:
        min_position: Left end of the valley, a wall, m.
        max_position: Right end of the valley, m.
        max_speed: Largest speed, m/step.
        goal_position: Where the goal begins, m.
        goal_velocity: Smallest velocity that counts as arrived, m/step.
        power: Acceleration by the strongest push, m/step^2.
        gravity: Largest acceleration by the slope, m/step^2.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: see :class:`~rltrain.envs.classic.hill.Hill`; ``power`` must be
            above 0.
    """

    max_episode_steps = 999
    reward_threshold = 90.0

    def __init__(
        self,
        *,
        min_position: float = -1.2,
        max_position: float = 0.6,
        max_speed: float = 0.07,
        goal_position: float | Sequence[float] = 0.45,
        goal_velocity: float | Sequence[float] = 0.0,
        power: float | Sequence[float] = 0.0015,
        gravity: float | Sequence[float] = 0.0025,
        **base: Any,
    ) -> None:
        super().__init__(
            min_position=min_position,
            max_position=max_position,
            max_speed=max_speed,
            goal_position=goal_position,
            goal_velocity=goal_velocity,
            gravity=gravity,
            **base,
        )
        self.power = self.constant("power", power, above=0, per_episode=True)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def step(self, state: CarState, action: Tensor, rng: torch.Generator | None) -> tuple[CarState, Tensor, Tensor]:
        """One step of the car."""
        force = action.squeeze(-1).to(self.dtype)
        after, arrived = self.roll(state, force.clamp(-1, 1) * self.constants_of(state.drawn).power)
        return after, 100.0 * arrived - 0.1 * force.square(), arrived

    def baseline(self, state: CarState) -> Tensor:
        """(N, 1): to the left where the car rolls to the left, else to the right."""
        return torch.where(state.velocity < 0, -1.0, 1.0).unsqueeze(-1)
