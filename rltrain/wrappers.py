"""Wrappers of vector environments: smaller and gray images, frame stacks, time awareness, rescaled actions.

All of them are batched arithmetic on the device, for tensor environments and adapted ones alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import channels_first
from rltrain.tree import from_dict, tree_where
from rltrain.vec import VecEnv, VecStep, own_spaces

GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue. ITU-R BT.601."""


def wrap(
    vec: VecEnv,
    *,
    grayscale: bool = False,
    resize: int | tuple[int, int] | None = None,
    time_aware: bool = False,
    frame_stack: int = 1,
    rescale_action: bool = False,
) -> VecEnv:
    """Wraps a vector environment as its options say, in this order; see :class:`~rltrain.config.EnvConfig`.

    Raises:
        ConfigError: A space does not fit an option.
    """
    if grayscale or resize is not None:
        vec = Pictures(vec, grayscale, resize)
    if frame_stack > 1:
        vec = FrameStack(vec, frame_stack)
    if time_aware:
        vec = TimeAware(vec)
    if rescale_action:
        vec = RescaleAction(vec)
    return vec


class VecWrapper:
    """Base class of wrappers: everything that a wrapper does not change is that of the environment inside.

    Args:
        vec: The environment inside.
    """

    def __init__(self, vec: VecEnv) -> None:
        self.vec = vec
        self.num_envs = vec.num_envs
        self.device = vec.device
        self.exact_resume = vec.exact_resume
        self.single_observation_space = vec.single_observation_space
        self.single_action_space = vec.single_action_space

    @property
    def own_spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Observations as they are here, actions as the environment inside has them."""
        return self.single_observation_space, own_spaces(self.vec)[1]

    def __getattr__(self, name: str) -> Any:
        if name == "vec":  # not there yet
            raise AttributeError(name)
        return getattr(self.vec, name)

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew and returns the first observations (N, *O)."""
        return self.vec.reset(seed)

    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A)."""
        return self.vec.step(action)

    def state_dict(self) -> dict[str, Any]:
        """The state of the environment inside."""
        return self.vec.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.vec.load_state_dict(state)

    def close(self) -> None:
        """Closes the environment inside."""
        self.vec.close()


def _entries(space: spaces.Space) -> dict[str, spaces.Space]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}


def _like(space: spaces.Space, entries: dict[str, spaces.Space]) -> spaces.Space:
    return spaces.Dict(entries) if isinstance(space, spaces.Dict) else entries[""]


def _is_picture(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8


class Pictures(VecWrapper):
    """Makes byte images gray, smaller, or both. Channels come first in the result.

    Args:
        vec: The environment whose observations are images.
        grayscale: Whether three channels become one.
        resize: Height and width, or one number for both; pixels are averaged over areas.

    Raises:
        ConfigError: The observations hold no images.
    """

    def __init__(self, vec: VecEnv, grayscale: bool, resize: int | tuple[int, int] | None) -> None:
        super().__init__(vec)
        self.size = (resize, resize) if isinstance(resize, int) else resize
        entries = _entries(vec.single_observation_space)
        self.first = {name: channels_first(space.shape) for name, space in entries.items() if _is_picture(space)}  # type: ignore[arg-type]
        if not self.first:
            raise ConfigError(
                f"There are no pictures of bytes (H, W, C) in {vec.single_observation_space}.",
                "Leave --env.grayscale and --env.resize out.",
            )
        for name, first in self.first.items():
            shape = entries[name].shape
            assert shape is not None
            channels, height, width = shape if first else (shape[2], shape[0], shape[1])
            gray = grayscale and channels == 3
            shape = (1 if gray else channels, *(self.size or (height, width)))
            entries[name] = spaces.Box(0, 255, shape, np.uint8)
        self.weights = torch.tensor(GRAY, device=vec.device).view(3, 1, 1) if grayscale else None
        self.single_observation_space = _like(vec.single_observation_space, entries)

    def reset(self, seed: int) -> Observation:
        """The first observations."""
        return self._changed(self.vec.reset(seed))

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """A step, its observations changed."""
        step = self.vec.step(action)
        final_obs = self._changed(step.final_obs)
        obs = final_obs if step.obs is step.final_obs else self._changed(step.obs)
        return step._replace(obs=obs, final_obs=final_obs)

    def _changed(self, obs: Observation) -> Observation:
        if isinstance(obs, Tensor):
            return self._picture(obs, self.first[""])
        return {name: self._picture(x, self.first[name]) if name in self.first else x for name, x in obs.items()}

    def _picture(self, x: Tensor, first: bool) -> Tensor:
        x = (x if first else x.permute(0, 3, 1, 2)).to(torch.float32)
        if self.weights is not None and x.shape[1] == 3:
            x = (x * self.weights).sum(1, keepdim=True)
        if self.size is not None:
            x = adaptive_avg_pool2d(x, self.size)
        return x.round().to(torch.uint8)


class FrameStack(VecWrapper):
    """Stacks the last observations, the latest last: images along their channels, vectors along the last axis.

    Observations from before the start of the episode are zero, as in Stable-Baselines3's VecFrameStack.

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
        entries = _entries(vec.single_observation_space)
        for name, space in entries.items():
            if isinstance(space, spaces.Box) and space.shape:
                axis = 0 if len(space.shape) == 3 and channels_first(space.shape) else len(space.shape) - 1
                low, high = (np.concatenate([bound] * size, axis) for bound in (space.low, space.high))
                low, high = np.minimum(low, 0).astype(space.dtype), np.maximum(high, 0).astype(space.dtype)
                entries[name] = spaces.Box(low, high, dtype=space.dtype.type)
                self.axes[name] = axis + 1
        if not self.axes:
            raise ConfigError(
                f"There is nothing to stack in {vec.single_observation_space}.", "Only Box observations are stacked."
            )
        self.single_observation_space = _like(vec.single_observation_space, entries)

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
        return torch.cat([torch.zeros_like(obs)] * (self.size - 1) + [obs], axis)

    def _pushed(self, obs: Tensor, axis: int, stack: Tensor) -> Tensor:
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


class RescaleAction(VecWrapper):
    """Rescales the actions of a Box: agents act in [-1, 1], whatever the bounds are.

    Args:
        vec: The environment inside.

    Raises:
        ConfigError: The action space is not a Box, or has no bounds.
    """

    def __init__(self, vec: VecEnv) -> None:
        super().__init__(vec)
        space = vec.single_action_space
        if not (isinstance(space, spaces.Box) and space.is_bounded()):
            raise ConfigError(f"Actions of {space} cannot be rescaled.", "Only a Box with bounds can be.")
        self.low, self.high = (torch.as_tensor(x, device=vec.device) for x in (space.low, space.high))
        self.single_action_space = spaces.Box(-1.0, 1.0, space.shape, space.dtype.type)

    @property
    def own_spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Those of the environment inside, whose observations are as they were."""
        return own_spaces(self.vec)

    def step(self, action: Tensor) -> VecStep:
        """A step with ``action`` (N, *A) from -1 to 1."""
        return self.vec.step(rescaled(action, self.low, self.high))


def rescaled(action: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From -1 to 1 to from ``low`` to ``high``."""
    return torch.lerp(low, high, (action + 1.0) / 2.0)
