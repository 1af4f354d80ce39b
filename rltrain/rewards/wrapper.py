"""Environments whose reward is a learned one."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rewards.ensemble import RewardEnsemble
from rltrain.spaces import first_unlike
from rltrain.tree import from_dict
from rltrain.vec import VecEnv, VecStep, own_spaces
from rltrain.wrappers.base import VecWrapper

LEARNED, TRUE = "learned_reward", "true_reward"
"""Keys of ``info`` for the mean of the two rewards over the steps between two log points."""


class LearnedReward(VecWrapper):
    """Replaces the reward by that of a model. All else, ``episode_return`` too, is the environment's.

    So the returns that are logged, and stopped at, are the true ones, and no evaluation knows the model.

    Args:
        vec: The environments inside.
        model: The model, on their device.

    Raises:
        ConfigError: The model is of other spaces.
    """

    def __init__(self, vec: VecEnv, model: RewardEnsemble) -> None:
        super().__init__(vec)
        mine = vec.single_observation_space, vec.single_action_space
        its = model.observation_space, model.action_space
        if (unlike := first_unlike(mine, its)) is not None:
            what, here, there = unlike
            raise ConfigError(
                f"The reward model is of {what} of {there}, and here they are of {here}.",
                "Give the environment and the --env options that its clips were recorded with.",
            )
        self.model = model

    @property
    def own_spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Those of the environments inside."""
        return own_spaces(self.vec)

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew and returns the first observations (N, *O)."""
        self._obs = self.vec.reset(seed)
        return self._obs

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """A step whose reward is the model's, for the observation that ``action`` (N, *A) was chosen for."""
        learned = self.model(self._obs, action)  # before the step, which may write over that observation
        step = self.vec.step(action)
        self._obs = step.obs
        return step._replace(reward=learned, info={**step.info, LEARNED: learned, TRUE: step.reward})

    def state_dict(self) -> dict[str, Any]:
        """The state of the environments inside, and what was observed last. The model does not change in a run."""
        return {"inner": self.vec.state_dict(), "obs": {"obs": self._obs}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.reset(seed=0)  # gives the template
        self.vec.load_state_dict(state["inner"])
        self._obs = from_dict(self._obs, state["obs"]["obs"])
