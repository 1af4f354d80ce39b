"""Wrappers of vector environments: smaller and gray images, frame stacks, time awareness, rescaled actions.

All of them are batched arithmetic on the device, for tensor environments and adapted ones alike.
"""

from __future__ import annotations

from rltrain.spaces import check_mask
from rltrain.vec import VecEnv
from rltrain.wrappers.actions import RescaleAction, rescaled, scale_of
from rltrain.wrappers.base import VecWrapper
from rltrain.wrappers.history import FrameStack, TimeAware
from rltrain.wrappers.pictures import GRAY, Pictures

__all__ = [
    "GRAY",
    "FrameStack",
    "Pictures",
    "RescaleAction",
    "TimeAware",
    "VecWrapper",
    "rescaled",
    "scale_of",
    "wrap",
]


def wrap(
    vec: VecEnv,
    *,
    grayscale: bool = False,
    resize: int | tuple[int, int] | None = None,
    time_aware: bool = False,
    frame_stack: int = 1,
    rescale_action: bool | None = False,
) -> VecEnv:
    """Wraps a vector environment as its options say, in this order; see :class:`~rltrain.config.EnvConfig`.

    Raises:
        ConfigError: A space does not fit an option, or the mask does not fit the actions; ``vec`` is then closed.
    """
    try:
        check_mask(vec.single_observation_space, vec.single_action_space)
        if grayscale or resize is not None:
            vec = Pictures(vec, grayscale, resize)
        if frame_stack > 1:
            vec = FrameStack(vec, frame_stack)
        if time_aware:
            vec = TimeAware(vec)
        if rescale_action or scale_of(vec.single_action_space, rescale_action) is not None:
            vec = RescaleAction(vec, rescale_action)
    except BaseException:
        vec.close()
        raise
    return vec
