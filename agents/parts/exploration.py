"""Epsilon-greedy exploration, decided independently for every environment."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rltrain.agents.parts.networks import mask_logits
from rltrain.env import Observation
from rltrain.schedules import ramp


class EpsilonGreedy:
    """Random actions with probability epsilon, otherwise the best. Draws random numbers for a whole rollout at once.

    Args:
        horizon: Steps of a rollout.
        num_envs: N.
        n_actions: A.
        device: Device of the actions.
        rng: Source of the random numbers.
    """

    def __init__(
        self, horizon: int, num_envs: int, n_actions: int, device: torch.device, rng: torch.Generator | None
    ) -> None:
        self.shape = (horizon, num_envs, n_actions + 1)
        self.device = device
        self.rng = rng
        self.step = 0

    def __call__(self, values: Tensor, obs: Observation, epsilon: float) -> Tensor:
        """Actions (N,), counted from 0, for action values (N, A); a mask in ``obs`` applies to random actions too."""
        return self.choose(values, obs, epsilon, self.chance())

    def chance(self) -> Tensor:
        """Random numbers (N, A + 1) for the next step."""
        if self.step == 0:
            self.noise = torch.rand(self.shape, device=self.device, generator=self.rng)
        noise = self.noise[self.step]
        self.step = (self.step + 1) % self.shape[0]
        return noise

    @staticmethod
    def choose(values: Tensor, obs: Observation, epsilon: float | Tensor, chance: Tensor) -> Tensor:
        """Actions for the given values and the random numbers of :meth:`chance`."""
        return torch.where(chance[..., :1] < epsilon, mask_logits(chance[..., 1:], obs), values).argmax(-1)


def epsilon_at(config: Any, progress_remaining: float) -> float:
    """The chance of a random action, according to the ``exploration_*`` settings of an agent."""
    return ramp(
        config.exploration_initial_eps, config.exploration_final_eps, config.exploration_fraction, progress_remaining
    )
