"""Spaces that Stable-Baselines3 does not take as they are, and the conversion of values."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from rltrain.spaces import entries_of


class Adapted:
    """Our spaces as Stable-Baselines3 takes them.

    Its networks are named by the entries of a Dict, and have no dots in their names; its categories are counted from
    0; its boxes have a dimension.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.

    Attributes:
        observation_space: The first, as Stable-Baselines3 takes it.
        action_space: The second.
        same: Whether both are as they were.
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self._own_action = action_space
        self._own = observation_space
        self.action_space = _adapted(action_space)
        if isinstance(observation_space, spaces.Dict):
            self._names = {name: _name(name) for name in observation_space.spaces}
            entries = {self._names[name]: _adapted(part) for name, part in observation_space.spaces.items()}
            self.observation_space: spaces.Space = spaces.Dict(entries)
        else:
            self.observation_space = _adapted(observation_space)
        self.same = self.observation_space == observation_space and self.action_space == action_space

    def obs(self, arrays: Any) -> Any:
        """Observations (n, *O), or a dict of them, for Stable-Baselines3."""
        if self.same:
            return arrays
        if isinstance(self._own, spaces.Dict):
            return {self._names[name]: _to_theirs(part, self._own[name]) for name, part in arrays.items()}
        return _to_theirs(arrays, self._own)

    def parts(self) -> dict[str, tuple[str, spaces.Space]]:
        """By our name of an entry of observations, their name and our space; without a Dict, names are empty."""
        names = self._names if isinstance(self._own, spaces.Dict) else {"": ""}
        return {name: (names[name], part) for name, part in entries_of(self._own).items()}

    def action(self, actions: NDArray[Any]) -> NDArray[Any]:
        """Actions (n, *A) of Stable-Baselines3 for the environment."""
        space = self._own_action
        if self.same:
            return actions
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            return actions + np.asarray(space.start)
        return actions.reshape(len(actions), *(space.shape or ()))


def _name(name: str) -> str:
    """A name that a network may have: no dots, and none of a method."""
    name = name.replace(".", "/")
    return f"[{name}]" if not name or hasattr(nn.ModuleDict, name) or hasattr(nn.ModuleDict(), name) else name


def _adapted(space: spaces.Space) -> spaces.Space:
    match space:
        case spaces.Discrete() if space.start != 0:
            return spaces.Discrete(int(space.n))
        case spaces.MultiDiscrete() if np.any(space.start):
            return spaces.MultiDiscrete(space.nvec)
        case spaces.Box() if not space.shape:
            return spaces.Box(space.low.reshape(1), space.high.reshape(1), (1,), space.dtype.type)
    return space


def _to_theirs(values: NDArray[Any], space: spaces.Space) -> NDArray[Any]:
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return values - np.asarray(space.start, values.dtype)
    return values.reshape(len(values), 1) if isinstance(space, spaces.Box) and not space.shape else values
