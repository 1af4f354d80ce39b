"""Warnings before a run of what one might not expect it to do, and the check that its experience fits into memory."""

from __future__ import annotations

import warnings

import numpy as np
import psutil
import torch
from gymnasium import spaces

from rltrain.config import AgentConfig, TrainConfig
from rltrain.errors import ConfigError
from rltrain.evaluation.limits import MAX_STEPS
from rltrain.spaces import is_picture, parts_of
from rltrain.vec import VecEnv, own_spaces
from rltrain.wrappers import scale_of

SMALL = 84
"""Pixels of the shorter side of a picture up to which no smaller one is advised."""


def remark(config: TrainConfig, env: VecEnv, steps_at_once: int) -> None:
    """Warns of what a run does that one might not expect.

    Args:
        config: The configuration.
        env: The environments.
        steps_at_once: Environment steps between two updates, over all environments and ranks.
    """
    scale = scale_of(own_spaces(env)[1], config.env.rescale_action)
    if scale is not None and config.env.rescale_action is None:
        low, high = (np.unique(side) for side in scale)
        bounds = f"from {low[0]:g} to {high[0]:g}" if low.size == high.size == 1 else "of different bounds"
        warnings.warn(
            f"Actions {bounds} are rescaled: the agent acts in [-1, 1]. --env.rescale-action false leaves them.",
            stacklevel=3,
        )
    if config.n_eval_episodes and getattr(env, "max_episode_steps", None) is None:
        warnings.warn(
            f"'{config.env.id}' states no time limit: an evaluation cuts an episode short after "
            f"{config.eval_max_steps or MAX_STEPS:,} steps (--eval-max-steps).",
            stacklevel=3,
        )
    if steps_at_once > config.total_timesteps:
        warnings.warn(
            f"The run takes {steps_at_once:,} steps rather than {config.total_timesteps:,}, since the agent learns "
            "after so many. Fewer --num-envs or --agent.n-steps make it shorter.",
            stacklevel=3,
        )


def check_memory(
    needed: int, device: torch.device, config: AgentConfig | None = None, space: spaces.Space | None = None
) -> None:
    """Checks that ``needed`` bytes fit into the free memory.

    Args:
        needed: Bytes of the experience to keep.
        device: Where it is kept.
        config: The agent's configuration, for the advice.
        space: Space of a single observation, for the advice.

    Raises:
        ConfigError: They do not fit.
    """
    if device.type in ("cuda", "xpu"):
        free = torch.get_device_module(device).mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available
    if needed <= free:
        return
    size = getattr(config, "buffer_size", None)
    fix = "Lower --agent.n-steps or --num-envs."
    if size is not None:
        fix = f"Lower --agent.buffer-size, which is {size:,}, to {_first_digit(0.8 * size * free / needed):,}."
    if space is not None and any(is_picture(part) and _can_shrink(part) for part in parts_of(space)):
        fix += " Smaller pictures take less: --env.resize 84 --env.grayscale true."
    raise ConfigError(
        f"The experience to keep takes {needed / 2**30:,.1f} GiB; {free / 2**30:,.1f} GiB are free on {device}.", fix
    )


def _can_shrink(picture: spaces.Space) -> bool:
    """Whether a space of three dimensions is one of pictures, gray or in colours, and larger than they need be."""
    height, width, channels = picture.shape or (0, 0, 0)
    if height in (1, 3, 4):
        height, width, channels = width, channels, height
    return channels in (1, 3, 4) and min(height, width) > SMALL


def _first_digit(number: float) -> int:
    """A number rounded down to its first digit."""
    unit = 10 ** (len(str(int(number))) - 1)
    return int(number) // unit * unit
