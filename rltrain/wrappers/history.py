"""What agents see of the past: the last observations, and the share of the time limit that has passed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import MASK, channels_first, entries_of
from rltrain.tree import from_dict, tree_where
from rltrain.vec import VecEnv, VecStep
from rltrain.wrappers.base import VecWrapper, like


class FrameStack(VecWrapper):
    """Stacks the last observations, the latest last: images along their channels, vectors along the last axis.

    Observations from before the start of the episode are zero, as in Stable-Baselines3's VecFrameStack. Single numbers
    become a vector. An action mask is not stacked: it is about the next action alone.

    Args:
        vec: The environment inside.
        size: How many observations to stack.

    Raises:
        ConfigError: The observations are not a Box.
    """

    def __init__(self, vec: VecEnv, size: int) -> None:
        super().__init__(vec)
        self.size = size
        self.axes: dict[str, int] = {}
        entries = entries_of(vec.single_observation_space)
        for name, space in entries.items():
            if isinstance(space, spaces.Box) and name != MASK:
                axis = 0 if len(space.shape) == 3 and channels_first(space.shape) else max(len(space.shape) - 1, 0)
                low, high = (np.concatenate([np.atleast_1d(side)] * size, axis) for side in (space.low, space.high))
                low, high = np.minimum(low, 0).astype(space.dtype), np.maximum(high, 0).astype(space.dtype)
                entries[name] = spaces.Box(low, high, dtype=space.dtype.type)
                self.axes[name] = axis + 1
        if not self.axes:
            raise ConfigError(
                f"There is nothing to stack in {vec.single_observation_space}.", "Only Box observations are stacked."
            )
        self.single_observation_space = like(vec.single_observation_space, entries)

    def reset(self, seed: int) -> Observation:
        """The first observations, and zeros before them."""
        self.stack = self._map(self._fresh, self.vec.reset(seed))
        return self.stack

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """A step; the stacks of finished environments start anew, and ``final_obs`` completes the old ones."""
        step = self.vec.step(action)
        final_obs = self._map(self._pushed, step.final_obs, self.stack)
        if step.obs is step.final_obs:  # no episode ended
            self.stack = final_obs
        else:
            fresh = self._map(self._fresh, step.obs)
            self.stack = tree_where(step.terminated | step.truncated, fresh, final_obs)
        return step._replace(obs=self.stack, final_obs=final_obs)

    def _map(self, change: Any, obs: Observation, *stack: Observation) -> Observation:
        if isinstance(obs, Tensor):
            return change(obs, self.axes[""], *stack)
        return {
            name: change(x, self.axes[name], *(old[name] for old in stack)) if name in self.axes else x  # type: ignore[index]
            for name, x in obs.items()
        }

    def _fresh(self, obs: Tensor, axis: int) -> Tensor:
        obs = obs if obs.dim() > 1 else obs.unsqueeze(1)
        return torch.cat([torch.zeros_like(obs)] * (self.size - 1) + [obs], axis)

    def _pushed(self, obs: Tensor, axis: int, stack: Tensor) -> Tensor:
        obs = obs if obs.dim() > 1 else obs.unsqueeze(1)
        one = obs.shape[axis]
        return torch.cat([stack.narrow(axis, one, one * (self.size - 1)), obs], axis)

    def state_dict(self) -> dict[str, Any]:
        """The stacks, and the state of the environment inside."""
        return {"inner": self.vec.state_dict(), "stack": {"stack": self.stack}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.reset(seed=0)  # gives the template
        self.vec.load_state_dict(state["inner"])
        self.stack = from_dict(self.stack, state["stack"]["stack"])


class TimeAware(VecWrapper):
    """Adds to the observation the share of the time limit that has passed, from 0 to 1.

    Pardo et al. (2018), "Time Limits in Reinforcement Learning", arXiv:1712.00378. A vector gets one more
    number at its end and a dict an entry ``time`` (N, 1); anything else becomes a dict of ``observation`` and ``time``.

    Args:
        vec: The environment inside.

    Raises:
        ConfigError: There is no time limit.
    """

    def __init__(self, vec: VecEnv) -> None:
        super().__init__(vec)
        limit = getattr(vec, "max_episode_steps", None)
        if limit is None:
            raise ConfigError("There is no time limit to be aware of.", "Give --env.max-episode-steps.")
        self.limit = float(limit)
        space, time = vec.single_observation_space, spaces.Box(0.0, 1.0, (1,))
        self.is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"
        if isinstance(space, spaces.Box) and self.is_vector:
            low, high = (np.append(x, np.asarray(y, x.dtype)) for x, y in ((space.low, 0), (space.high, 1)))
            self.single_observation_space = spaces.Box(low, high, dtype=space.dtype.type)
        elif isinstance(space, spaces.Dict):
            if "time" in space.spaces:
                raise ConfigError("The observation has an entry 'time' already.", "Leave --env.time-aware out.")
            self.single_observation_space = spaces.Dict({**space.spaces, "time": time})
        else:
            self.single_observation_space = spaces.Dict({"observation": space, "time": time})

    def reset(self, seed: int) -> Observation:
        """The first observations, at time 0."""
        return self._with(self.vec.reset(seed), torch.zeros(self.num_envs, device=self.device))

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """A step, with the time in its observations."""
        step = self.vec.step(action)
        time = step.episode_length / self.limit
        final_obs = self._with(step.final_obs, time)
        obs = self._with(step.obs, time.masked_fill(step.terminated | step.truncated, 0.0))
        return step._replace(obs=obs, final_obs=final_obs)

    def _with(self, obs: Observation, time: Tensor) -> Observation:
        time = time.unsqueeze(1)
        if isinstance(obs, dict):
            return {**obs, "time": time}
        return torch.cat([obs, time.to(obs.dtype)], 1) if self.is_vector else {"observation": obs, "time": time}
