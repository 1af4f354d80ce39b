"""The policy of an algorithm of Stable-Baselines3 in tensor operations alone, as exporters trace it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor
from torch.distributions import Distribution

from rltrain.agent import Actor, ActOut
from rltrain.env import Observation
from rltrain.sb3.spaces import Adapted
from rltrain.spaces import entries_of


class TraceableActor(Actor):
    """What ``predict`` of Stable-Baselines3 does between NumPy arrays, in tensors; it takes the most likely action.

    Args:
        policy: That of the algorithm. The networks are shared.
        action_space: Our space of an action.
        adapted: Our spaces as Stable-Baselines3 takes them.
        normalizer: Scales observations; None if they are not scaled.
    """

    def __init__(
        self, policy: Any, action_space: spaces.Space, adapted: Adapted, normalizer: VecNormalize | None
    ) -> None:
        super().__init__()
        self.adapted, self.action_space = adapted, action_space
        self.policy = policy
        self.policy.set_training_mode(False)
        space, theirs = self.adapted.observation_space, self.policy.observation_space
        self.parts = self.adapted.parts()
        names = [name for name, _ in self.parts.values()]
        self.turned = {name: _is_turned(entries_of(space)[name], entries_of(theirs)[name]) for name in names}
        self.clip, self.scaled = 0.0, dict[str, int]()
        if normalizer is not None and normalizer.norm_obs:
            self.clip, rms = normalizer.clip_obs, normalizer.obs_rms
            for name, moments in rms.items() if isinstance(rms, dict) else [("", rms)]:
                self._keep(name, moments, normalizer.epsilon)

    def _keep(self, name: str, moments: RunningMeanStd, epsilon: float) -> None:
        self.scaled[name] = number = len(self.scaled)
        self.register_buffer(f"mean_{number}", torch.as_tensor(moments.mean, dtype=torch.float64))
        self.register_buffer(f"deviation_{number}", torch.as_tensor(moments.var + epsilon, dtype=torch.float64).sqrt())

    def choose(self, obs: Observation, state: Any, *, deterministic: bool, rng: Any) -> ActOut:
        """Actions (N, *A)."""
        given = obs if isinstance(obs, dict) else {"": obs}
        taken = {theirs: self._prepared(theirs, given[name], own) for name, (theirs, own) in self.parts.items()}
        several = isinstance(self.adapted.observation_space, spaces.Dict)
        Distribution.set_default_validate_args(False)  # its checks read the numbers, which a graph does not have
        try:
            action = self.policy._predict(taken if several else taken[""], deterministic=True)
        finally:
            Distribution.set_default_validate_args(__debug__)
        return ActOut(self._in_space(action))

    def _prepared(self, name: str, part: Tensor, space: spaces.Space) -> Tensor:
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            part = part - torch.as_tensor(np.asarray(space.start), dtype=part.dtype)
        elif not space.shape:
            part = part.reshape(part.shape[0], 1)
        if name in self.scaled:
            number = self.scaled[name]
            mean, deviation = getattr(self, f"mean_{number}"), getattr(self, f"deviation_{number}")
            part = ((part.to(mean.dtype) - mean) / deviation).clamp(-self.clip, self.clip).to(torch.float32)
        return part.permute(0, 3, 1, 2) if self.turned[name] else part

    def _in_space(self, action: Tensor) -> Tensor:
        theirs, own = self.adapted.action_space, self.action_space
        if isinstance(theirs, spaces.Box):
            action = action.reshape(action.shape[0], *theirs.shape)
            low, high = torch.as_tensor(theirs.low), torch.as_tensor(theirs.high)
            squashed = self.policy.squash_output
            action = low + 0.5 * (action + 1.0) * (high - low) if squashed else action.clamp(low, high)
        elif isinstance(own, spaces.Discrete | spaces.MultiDiscrete):
            action = action + torch.as_tensor(np.asarray(own.start), dtype=action.dtype)
        return action.reshape(action.shape[0], *(own.shape or ()))


def _is_turned(given: spaces.Space, taken: spaces.Space) -> bool:
    """Whether the channels of a picture are moved to the front."""
    if not is_image_space(given) or is_image_space_channels_first(given):  # type: ignore[arg-type]
        return False
    return given.shape != taken.shape or is_image_space_channels_first(taken)  # type: ignore[arg-type]
