"""A batched CartPole in NumPy for libraries that have none: Gymnasium's own, with resets in the step that ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode


class BatchedCartPole(CartPoleVectorEnv):
    """Gymnasium's ``CartPoleVectorEnv`` with same-step resets.

    Gymnasium's version spends a step on every reset, which is a transition that never happened and must not be learned
    from. Where episodes end, ``info`` has their rows ``ends``, their last observations ``final_obs``, and their
    ``lengths``, which equal their returns.
    """

    metadata = {**CartPoleVectorEnv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Steps all environments; ``truncated`` is false where an episode also terminated."""
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
