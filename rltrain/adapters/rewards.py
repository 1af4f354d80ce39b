"""Rewards that are vectors, one number for each objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from rltrain.errors import ConfigError


class WeightedReward(gymnasium.RewardWrapper[Any, Any]):
    """Gives the weighted sum of a vector reward.

    Args:
        env: The environment.
        weights: One weight for each objective.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], weights: Sequence[float]) -> None:
        super().__init__(env)
        self.weights = np.asarray(weights, np.float64)

    def reward(self, reward: Any) -> SupportsFloat:
        """The sum.

        Raises:
            ValueError: There is another number of objectives.
        """
        given = np.ravel(np.asarray(reward, np.float64))
        if given.shape != self.weights.shape:
            raise ValueError(f"the reward {reward} has {given.size} numbers, and there are {self.weights.size} weights")
        return float(given @ self.weights)


def check_objectives(env: gymnasium.Env[Any, Any], weights: Sequence[float] | None, id: str) -> None:
    """Checks that an environment which says that it has several objectives has a weight for each.

    Args:
        env: The environment. MO-Gymnasium's have a ``reward_space``.
        weights: The weights; None for none.
        id: Its id, for the error.

    Raises:
        ConfigError: It has not.
    """
    space = getattr(env.unwrapped, "reward_space", None)
    shape = getattr(space, "shape", None)
    if shape is None:
        return
    check_number(int(np.prod(shape)), weights, id)


def check_number(number: int, weights: Sequence[float] | None, id: str) -> None:
    """Checks that there is a weight for each of the numbers of a reward, where there are several.

    Args:
        number: How many there are: one for each objective, or for each of several agents.
        weights: The weights; None for none.
        id: The id of the environment, for the error.

    Raises:
        ConfigError: There is not.
    """
    ones = " ".join(["1"] * number)
    if weights is None and number > 1:
        raise ConfigError(
            f"'{id}' has {number} objectives, or agents: its reward is a vector, and an agent learns from one number.",
            f"Weigh them: --env.reward-weights {ones}",
        )
    if weights is not None and number != len(weights):
        raise ConfigError(
            f"'{id}' has {number} objectives, and there are {len(weights)} weights.", f"--env.reward-weights {ones}"
        )
