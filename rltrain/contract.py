"""What an author's functions owe, checked once for each run: a wrong shape is named where it arises."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.tree import leaves, names


def check_observation(env: TensorEnv[Any], obs: Observation, n: int) -> None:
    """Holds the observations of ``n`` environments to the space that the author gave.

    Raises:
        ConfigError: They have another shape, or are no tensors on the environment's device.
    """
    space = env.full_observation_space
    named = obs if isinstance(obs, dict) else {"": obs}
    spaces_of = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    if named.keys() != spaces_of.keys():
        raise ConfigError(
            f"{type(env).__name__}.observe returned {sorted(named)}, and its observation_space is {space}.",
            "Return the entries of the space, or a tensor where the space is no Dict.",
        )
    for name, part in named.items():
        _hold(env, f"observe returned {name or 'an observation'}", part, (n, *(spaces_of[name].shape or ())))


def check_outcome(env: TensorEnv[Any], before: Any, after: Any, reward: Tensor, terminated: Tensor) -> None:
    """Holds what a step returned to what it owes.

    Raises:
        ConfigError: A shape or type is not what it should be.
    """
    n = len(next(leaves(before)))
    _hold(env, "step returned a reward", reward, (n,))
    _hold(env, "step returned terminated", terminated, (n,), torch.bool)
    for name, old, new in zip(names(before), leaves(before), leaves(after), strict=True):
        _hold(env, f"step returned the state's {name}", new, tuple(old.shape), old.dtype)


def _hold(env: TensorEnv[Any], what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
    if not isinstance(value, Tensor):
        raise ConfigError(f"{type(env).__name__}.{what} that is a {type(value).__name__}.", "Return a tensor.")
    if tuple(value.shape) != shape:
        raise ConfigError(
            f"{type(env).__name__}.{what} of shape {tuple(value.shape)} for {shape[0]} environments.",
            f"Its shape must be {shape}.",
        )
    if dtype is not None and value.dtype != dtype:
        raise ConfigError(f"{type(env).__name__}.{what} of type {value.dtype}.", f"Its type must be {dtype}.")
    if value.device.type != env.device.type:
        raise ConfigError(
            f"{type(env).__name__}.{what} on {value.device}, and the environment is on {env.device}.",
            "Make tensors with device=self.device.",
        )
