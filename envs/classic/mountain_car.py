"""MountainCar: rock out of a valley with a motor too weak to climb it at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.envs.classic.hill import CarState, Hill


class MountainCar(Hill):
    """Gymnasium's MountainCar-v0, step for step.

    Observation: (N, 2): position (m), velocity (m/step).
    Action: 0 pushes the car to the left, 1 not at all, 2 to the right.
    Reward: -1 in every step.
    Episode end: the car is at ``goal_position`` or beyond, no slower than ``goal_velocity``.
    Source: Moore, "Efficient Memory-based Learning for Robot Control", 1990; Sutton and Barto, "Reinforcement
        Learning: An Introduction", 2018, example 10.1; Gymnasium 1.4, ``envs/classic_control/mountain_car.py``.
    Baseline: pushes the way the car rolls, so that the motor always adds energy.

    The goal, ``force`` and ``gravity`` may be ranges ``[low, high]``, drawn anew for each episode.

    Args:
        min_position: Left end of the valley, a wall, m.
        max_position: Right end of the valley, m.
        max_speed: Largest speed, m/step.
        goal_position: Where the goal begins, m.
        goal_velocity: Smallest velocity that counts as arrived, m/step.
        force: Acceleration by a push, m/step^2.
        gravity: Largest acceleration by the slope, m/step^2.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: see :class:`~rltrain.envs.classic.hill.Hill`; ``force`` must be
            above 0.
    """

    max_episode_steps = 200
    reward_threshold = -110.0

    def __init__(
        self,
        *,
        min_position: float = -1.2,
        max_position: float = 0.6,
        max_speed: float = 0.07,
        goal_position: float | Sequence[float] = 0.5,
        goal_velocity: float | Sequence[float] = 0.0,
        force: float | Sequence[float] = 0.001,
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
        self.force = self.constant("force", force, above=0, per_episode=True)
        self.action_space = spaces.Discrete(3)

    def step(self, state: CarState, action: Tensor, rng: torch.Generator | None) -> tuple[CarState, Tensor, Tensor]:
        """One step of the car."""
        after, arrived = self.roll(state, (action - 1) * self.constants_of(state.drawn).force)
        return after, torch.full_like(after.position, -1.0), arrived

    def baseline(self, state: CarState) -> Tensor:
        """(N,): to the left where the car rolls to the left, else to the right."""
        return torch.where(state.velocity < 0, 0, 2)
