"""Where an action mask allowed nothing although the agent had to act, noted on the device."""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation
from rltrain.spaces import MASK, allows_nothing


class Choices:
    """Notes the observations that are acted upon whose mask allows no action; the watch on the run looks at them.

    A mask may allow nothing in the last observation of an episode alone, which nobody acts upon.

    Args:
        action_space: Space of a single action.
        horizon: T, observations between two looks.
    """

    def __init__(self, action_space: spaces.Space, horizon: int) -> None:
        self.action_space = action_space
        self.horizon = horizon
        self.missing: Tensor | None = None
        """(T, N) bool, true where nothing is allowed; None without masks."""
        self._step = 0

    def note(self, obs: Observation) -> None:
        """Notes the next observations (N, *O), without waiting for the device."""
        if isinstance(obs, Tensor) or MASK not in obs:
            return
        nothing = allows_nothing(obs[MASK], self.action_space)
        if self.missing is None:
            self.missing = torch.zeros((self.horizon, *nothing.shape), dtype=torch.bool, device=nothing.device)
        self.missing[self._step] = nothing
        self._step = (self._step + 1) % self.horizon
