"""Smaller and gray pictures."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import channels_first, entries_of, is_picture
from rltrain.vec import VecEnv, VecStep
from rltrain.wrappers.base import VecWrapper, like

GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue. ITU-R BT.601."""


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
        entries = entries_of(vec.single_observation_space)
        self.first = {
            name: channels_first(space.shape or ())
            for name, space in entries.items()
            if is_picture(space) and space.dtype == np.uint8
        }
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
        self.single_observation_space = like(vec.single_observation_space, entries)

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
