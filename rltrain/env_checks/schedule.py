"""When a tensor environment is checked again after its first step, and its numbers under ``--debug``."""

from __future__ import annotations

import os
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError

DEBUG = "RLTRAIN_DEBUG"
"""Environment variable: with ``1`` every step is checked in full, which waits for the device."""


def in_full() -> bool:
    """Whether every step is checked in full, as under ``--debug``."""
    return os.environ.get(DEBUG) == "1"


def is_due(step: int) -> bool:
    """Whether a step is one of those that are checked: the 1st, 2nd, 4th, 8th ... and every 1,024th."""
    return not step & (step - 1) or not step & 1023


def check_numbers(env: TensorEnv[Any], obs: Observation, reward: Tensor, terminated: Tensor, step: int) -> None:
    """Checks the numbers that a step gave; waits for the device.

    Args:
        env: The environment.
        obs: (N, *O) the observations that the step led to.
        reward: (N,).
        terminated: (N,) bool; nothing reads a floating-point observation where it is true.
        step: The number of the step since the last reset of all, for the error.

    Raises:
        ConfigError: One is not finite, or is no category of its space.
    """
    named = obs if isinstance(obs, dict) else {"": obs}
    space = env.full_observation_space
    spaces_of = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    goes_on = ~terminated
    faults = {"the reward": ~torch.isfinite(reward)}
    for name, part in named.items():
        rows = part.reshape(len(part), -1)
        if part.is_floating_point():
            fault = ~torch.isfinite(rows) & goes_on.unsqueeze(1)
        elif (bounds := _categories(spaces_of[name])) is not None:
            fault = (rows < torch.as_tensor(bounds[0]).to(rows)) | (rows > torch.as_tensor(bounds[1]).to(rows))
        else:
            continue
        faults[f"the observation {name!r}" if name else "the observation"] = fault.any(1)
    for what, fault in faults.items():
        if bool(fault.any()):
            row = int(fault.nonzero()[0, 0])
            value = reward[row] if what == "the reward" else named[what.partition("'")[2].rstrip("'")][row]
            raise ConfigError(
                f"{type(env).__name__} gave in step {step:,} for environment {row}: {what} is {value.tolist()}.",
                "Mend the environment, or its spaces; 'rltrain check' looks through both.",
            )


def _categories(space: spaces.Space) -> tuple[Any, Any] | None:
    match space:
        case spaces.Discrete(start=start, n=n):
            return int(start), int(start + n) - 1
        case spaces.MultiDiscrete(start=start, nvec=nvec):
            return start.ravel(), (start + nvec - 1).ravel()
        case spaces.MultiBinary():
            return 0, 1
    return None
