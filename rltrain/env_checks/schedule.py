"""When a tensor environment is checked again after its first step, and its numbers under ``--debug``."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.spaces import categories_of, entries_of

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
    spaces_of = entries_of(env.full_observation_space)
    goes_on = ~terminated
    looked_at = [("the reward", reward, ~torch.isfinite(reward))]
    for name, part in named.items():
        rows = part.reshape(len(part), -1)
        if part.is_floating_point():
            fault = ~torch.isfinite(rows) & goes_on.unsqueeze(1)
        elif (bounds := categories_of(spaces_of[name])) is not None:
            low, high = (torch.as_tensor(bound).flatten().to(rows) for bound in bounds)
            fault = (rows < low) | (rows > high)
        else:
            continue
        looked_at.append((f"the observation {name!r}" if name else "the observation", part, fault.any(1)))
    for what, values, fault in looked_at:
        if bool(fault.any()):
            row = int(fault.nonzero()[0, 0])
            raise ConfigError(
                f"{type(env).__name__} gave in step {step:,} for environment {row}: {what} is {values[row].tolist()}.",
                "Mend the environment, or its spaces; 'rltrain check' looks through both.",
            )
