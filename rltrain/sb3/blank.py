"""Spaces without an environment, for an algorithm of Stable-Baselines3 that only acts."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


class Blank(VecEnv):
    """Has the spaces of N environments, and no environment.

    Raises:
        ValueError: A space does not start at 0, which Stable-Baselines3 would misread.
    """

    def __init__(self, num_envs: int, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        parts = observation_space.spaces.values() if isinstance(observation_space, spaces.Dict) else [observation_space]
        for space in (*parts, action_space):
            if np.any(getattr(space, "start", 0)):
                raise ValueError(f"{space} does not start at 0")
        super().__init__(num_envs, observation_space, action_space)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Has no picture and no attribute."""
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Has no wrappers."""
        return [False] * self.num_envs

    def close(self) -> None:
        """Nothing to release."""

    def _nothing(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError("there is no environment here")

    reset = step_async = step_wait = set_attr = env_method = _nothing
