"""A batched CartPole in NumPy for the libraries that bring none: Gymnasium's own, resetting in the step that ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode


class BatchedCartPole(CartPoleVectorEnv):
    """Gymnasium's ``CartPoleVectorEnv`` with same-step resets.

    As it is, it spends a step on every reset, a transition that never happened and must not be learned from. Where
    episodes end, ``info`` holds their rows ``ends``, their last observations ``final_obs`` and their ``lengths``, which
    are their returns.
    """

    metadata = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """A step of all; ``truncated`` leaves those out that also terminated."""
        obs, reward, terminated, truncated, info = super().step(action)
        ends = np.flatnonzero(self.prev_done)
        if len(ends):
            info = {"ends": ends, "final_obs": obs[ends], "lengths": self.steps[ends]}
            starts = self.np_random.uniform(self.low, self.high, (4, len(ends)))
            self.state[:, ends] = starts
            obs[ends] = starts.T
            self.steps[ends] = 0
            self.prev_done = np.zeros_like(self.prev_done)
            truncated &= ~terminated
        return obs, reward, terminated, truncated, info
