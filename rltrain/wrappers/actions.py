"""Rescaled actions."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.spaces import joined_actions
from rltrain.vec import VecEnv, VecStep, own_spaces
from rltrain.wrappers.base import VecWrapper

NEAR = (0.5, 2.0)
"""Bounds of this magnitude, the lower one negative, are near [-1, 1]: agents act in such a Box as it is."""
NO_BOUND = 1e8
"""A bound of at least this magnitude bounds nothing that could be meant."""


class RescaleAction(VecWrapper):
    """Rescales the actions of a Box: agents act in [-1, 1], whatever the bounds are.

    Numbers without two finite bounds are left as they are, and clipped where there is one.

    Args:
        vec: The environment inside.
        wanted: As for :func:`scale_of`.

    Raises:
        ConfigError: The action space is not a Box, or has no bounds.
    """

    def __init__(self, vec: VecEnv, wanted: bool | None = True) -> None:
        super().__init__(vec)
        space = vec.single_action_space
        scale = scale_of(space, wanted)
        if scale is None:
            raise ConfigError(f"Actions of {space} cannot be rescaled.", "Only a Box with bounds can be.")
        assert isinstance(space, spaces.Box)
        scaled = _bounded(space, wanted)
        low, high = np.where(scaled, -1.0, space.low), np.where(scaled, 1.0, space.high)
        kind = space.dtype.type if space.dtype.kind == "f" else np.float32
        self.single_action_space = spaces.Box(low.astype(kind), high.astype(kind), space.shape, kind)
        self.low, self.high = (torch.as_tensor(x, device=vec.device) for x in scale)

    @property
    def own_spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Those of the environment inside, whose observations are as they were."""
        return own_spaces(self.vec)

    def step(self, action: Tensor) -> VecStep:
        """A step with ``action`` (N, *A) from -1 to 1."""
        return self.vec.step(rescaled(action, self.low, self.high))


def scale_of(space: spaces.Space, wanted: bool | None) -> tuple[np.ndarray, np.ndarray] | None:
    """The actions that -1 and 1 stand for, each (*A) float32; None where actions are not rescaled.

    Args:
        space: The action space of the environment.
        wanted: Whether to rescale: None does it if an action has two finite bounds that are not near [-1, 1], see
            :data:`NEAR`. Otherwise a Gaussian around 0 would act in a corner of a Box such as [0, 512].
    """
    space = joined_actions(space)
    if wanted is False or not isinstance(space, spaces.Box):
        return None
    scaled = _bounded(space, wanted)
    if wanted is None:
        near = (-space.low >= NEAR[0]) & (-space.low <= NEAR[1]) & (space.high >= NEAR[0]) & (space.high <= NEAR[1])
        if not (scaled & ~near & (space.low < space.high)).any():
            return None
    elif not space.is_bounded():
        return None
    return np.where(scaled, space.low, -1.0).astype(np.float32), np.where(scaled, space.high, 1.0).astype(np.float32)


def has_bounds(space: spaces.Box) -> bool:
    """Whether every action has two bounds that are meant: the largest numbers of a type stand for none."""
    return bool(_bounded(space, None).all())


def _bounded(space: spaces.Box, wanted: bool | None) -> np.ndarray:
    """(*A) bool, true where an action has two finite bounds to be rescaled to."""
    most = np.inf if wanted else NO_BOUND
    return (np.abs(space.low.astype(np.float64)) < most) & (np.abs(space.high.astype(np.float64)) < most)


def rescaled(action: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """From -1 to 1 to from ``low`` to ``high``."""
    return torch.lerp(low, high, (action + 1.0) / 2.0)
