"""User-defined networks, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.networks import Encoder, make_encoder
from rltrain.agents.parts.settings import NetworkKwargs
from rltrain.config import class_of
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import MASK


class CustomEncoder(Encoder):
    """An encoder that wraps a user-defined module.

    Args:
        own: The class, called as ``own(observation_space, **kwargs)``. Its attribute ``size``, or ``features_dim`` as
            in Stable-Baselines3, is the number of features F; its ``forward`` turns (B, *O) into (B, F).
        space: Space of a single observation.
        kwargs: Further arguments of the class.

    Raises:
        ConfigError: The module cannot be made, or does not have this form.
    """

    def __init__(self, own: type | str, space: spaces.Space, kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = make_custom(own, space, **kwargs)
        name = type(self.module).__name__
        size = getattr(self.module, "size", getattr(self.module, "features_dim", None))
        if not isinstance(size, int):
            raise ConfigError(f"{name} has no attribute 'size'.", "Set it to the number of features it gives.")
        self.size = size
        expect(self.module, blank(space, 2), name, ((2, size),))

    def forward(self, obs: Observation) -> Tensor:
        """(B, *O) to (B, size)."""
        return self.module(obs)


def encoder_for(space: spaces.Space, config: NetworkKwargs, *, layer_norm: bool = False) -> Encoder:
    """The encoder that a configuration asks for: the built-in one for the observation space, or a user-defined one.

    Raises:
        ConfigError: No encoder fits the space, or the user-defined one does not.
    """
    own = config.features_extractor_class
    if own in ("auto", "flatten"):
        return make_encoder(space, flatten=own == "flatten", layer_norm=layer_norm)
    return CustomEncoder(own, space, config.features_extractor_kwargs)


def make_custom(own: type | str, *args: Any, **kwargs: Any) -> nn.Module:
    """Makes a module of a user-defined class.

    Raises:
        ConfigError: It cannot be made with these arguments, or is not a module.
    """
    cls = class_of(own)
    try:
        module = cls(*args, **kwargs)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__} cannot be made: {error}.", "Give it the arguments of the guide.") from error
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{cls.__name__} is no network.", "Make it a subclass of torch.nn.Module.")
    return module


@torch.no_grad()
def expect(module: nn.Module, obs: Observation, name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Checks the output shapes of a module on blank observations.

    Raises:
        ConfigError: The module fails, or its outputs have other shapes.
    """
    owed = " and ".join(map(str, shapes))
    was_training = module.training
    try:
        out = module.eval()(obs)
    except Exception as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{name} fails on two blank observations: {line}", f"It is to give {owed}.") from error
    finally:
        module.train(was_training)
    got = tuple(tuple(getattr(x, "shape", ())) for x in (out if isinstance(out, tuple) else (out,)))
    if got != shapes:
        given = " and ".join(map(str, got))
        raise ConfigError(f"{name} gives {given} for two observations.", f"It is to give {owed}.")


def blank(space: spaces.Space, n: int) -> Any:
    """``n`` blank observations of a space: zeros or the nearest valid values, with masks that allow every action."""
    if isinstance(space, spaces.Dict):
        parts = {name: blank(part, n) for name, part in space.spaces.items()}
        return {name: torch.ones_like(part) if name == MASK else part for name, part in parts.items()}
    if isinstance(space, spaces.Box):
        value = np.clip(np.zeros(space.shape, space.dtype), space.low, space.high).astype(space.dtype)
    else:
        start = getattr(space, "start", 0)
        value = np.broadcast_to(start, space.shape or ()).astype(space.dtype)
    return torch.as_tensor(value).expand(n, *(space.shape or ())).clone()
