"""Gymnasium spaces as agents see them: a tensor or a flat dict of tensors, and the conversion of values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import DTypeLike

from rltrain.errors import ConfigError
from rltrain.spaces import action_parts, joined_actions

WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "int64"}
"""Types that torch supports only partly, and the types that hold their values."""
WAYS_OUT = {
    "Text": "Turn the text into numbers, such as codes of its words, by gymnasium.wrappers.TransformObservation",
    "Graph": "Write nodes and edges into arrays of a fixed size by gymnasium.wrappers.TransformObservation",
    "Sequence": "Fill up to a fixed length by gymnasium.wrappers.TransformObservation",
    "OneOf": "Give all the alternatives side by side in a Dict, by gymnasium.wrappers.TransformObservation",
}
"""What can be done about spaces that are no arrays of a fixed size, by their kind."""


@dataclass(frozen=True)
class Leaf:
    """One array of an observation.

    Attributes:
        path: The keys and indices that lead to it; () where the observation is the array.
        space: Its space as agents see it.
        shape: Its shape in the environment.
        dtype: Its type in memory, which is that of the tensor.
    """

    path: tuple[str | int, ...]
    space: spaces.Space
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def name(self) -> str:
        """``a.b`` for what is behind ``obs["a"]["b"]``; empty where the observation is the array."""
        return ".".join(map(str, self.path))

    def of(self, value: Any) -> Any:
        """This leaf of an observation."""
        for key in self.path:
            value = value[key]
        return value


def observation_leaves(space: spaces.Space, real: DTypeLike = np.float32) -> tuple[list[Leaf], list[str]]:
    """The arrays that make up an observation.

    Args:
        space: Observation space; Dict and Tuple to any depth.
        real: Type of floating-point numbers.

    Returns:
        The leaves, and the names of Dict entries that were left out because they are text.

    Raises:
        ConfigError: A part of it cannot be a tensor, or nothing is left.
    """
    check_space(space, "observation_space")
    leaves: list[Leaf] = []
    texts: list[str] = []
    for path, part in _parts(space, ()):
        leaf = _leaf(path, part, np.dtype(real))
        if leaf is not None:
            leaves.append(leaf)
        elif part.dtype is not None and part.dtype.kind == "U" and path:
            texts.append(".".join(map(str, path)))
        else:
            where = f" at '{'.'.join(map(str, path))}'" if path else ""
            raise ConfigError(
                f"Observations cannot be tensors: there is a {_named(part)}{where}.",
                f"{WAYS_OUT.get(type(part).__name__, 'Wrap the environment')} so that it gives Box, Discrete, "
                "MultiDiscrete, MultiBinary, Dict or Tuple.",
            )
    if not leaves:
        raise ConfigError(f"There is nothing to observe in {_named(space)}.", "Wrap the environment so that there is.")
    if nothing := next((leaf for leaf in leaves if 0 in leaf.shape), None):
        at = f" at '{nothing.name}'" if nothing.name else ""
        raise ConfigError(
            f"There is nothing to observe in {_named(nothing.space)}{at}.",
            "Leave it out, by gymnasium.wrappers.TransformObservation."
            if nothing.name
            else "Give it a number at least.",
        )
    names = [leaf.name for leaf in leaves]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(
            f"Two entries of the observation are called '{twice}', as nested ones are joined by dots.",
            "Give one of them another key.",
        )
    return leaves, texts


def seen_space(leaves: list[Leaf]) -> spaces.Space:
    """The space of observations as agents see them."""
    if not leaves[0].path:
        return leaves[0].space
    return spaces.Dict({leaf.name: leaf.space for leaf in leaves})


def _parts(space: spaces.Space, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], spaces.Space]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _parts(part, (*path, index))
    else:
        yield path, space


def _leaf(path: tuple[str | int, ...], space: spaces.Space, real: np.dtype) -> Leaf | None:
    match space:
        case spaces.Box():
            dtype = real if space.dtype.kind == "f" else np.dtype(WIDER.get(space.dtype.name, space.dtype))
            return Leaf(path, _box(space, dtype), space.shape, dtype)
        case spaces.Discrete():
            return Leaf(path, spaces.Discrete(int(space.n), start=int(space.start)), (), np.dtype(np.int64))
        case spaces.MultiDiscrete():
            return Leaf(path, _in_a_row(space), space.shape, np.dtype(np.int64))
        case spaces.MultiBinary():
            return Leaf(path, spaces.MultiBinary(int(np.prod(space.shape))), space.shape, np.dtype(np.int8))
    return None


def _box(space: spaces.Box, dtype: np.dtype) -> spaces.Box:
    if space.dtype == dtype:
        return space
    with np.errstate(over="ignore"):  # bounds become infinite in the smaller type
        return spaces.Box(space.low.astype(dtype), space.high.astype(dtype), space.shape, dtype.type)


def _in_a_row(space: spaces.MultiDiscrete) -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete(space.nvec.ravel(), start=np.asarray(space.start).ravel())


@dataclass(frozen=True)
class Actions:
    """The actions of agents, and their conversion to those of the environment.

    Attributes:
        space: Space of an action as agents see it: Box in float32, MultiDiscrete and MultiBinary flattened.
        dtype: Type of the agent's actions.
        of_env: Space of the environment's own actions.
    """

    space: spaces.Space
    dtype: np.dtype
    of_env: spaces.Space

    @classmethod
    def for_space(cls, space: spaces.Space) -> Actions:
        """The conversion for the action space of an environment.

        Raises:
            ConfigError: Agents cannot act in this space.
        """
        if 0 in (getattr(space, "shape", None) or ()):
            raise ConfigError(
                f"There is nothing to choose in the action space {_named(space)}.", "Give it a number at least."
            )
        match space:
            case spaces.Box():
                return cls(_box(space, np.dtype(np.float32)), np.dtype(np.float32), space)
            case spaces.Discrete():
                return cls(spaces.Discrete(int(space.n), start=int(space.start)), np.dtype(np.int64), space)
            case spaces.MultiDiscrete():
                return cls(_in_a_row(space), np.dtype(np.int64), space)
            case spaces.MultiBinary():
                return cls(spaces.MultiBinary(int(np.prod(space.shape))), np.dtype(np.int8), space)
            case spaces.Dict() | spaces.Tuple() if (joined := joined_actions(space)) is not space:
                assert joined.dtype is not None
                return cls(joined, joined.dtype, space)
        check_space(space, "action_space")
        raise ConfigError(
            f"There are no agents that act in {_named(space)}.",
            "Wrap it by gymnasium.ActionWrapper so that it takes Box, Discrete, MultiDiscrete or MultiBinary actions, "
            "or a Tuple or Dict of either choices or numbers.",
        )

    def to_env(self, actions: np.ndarray) -> Any:
        """``actions`` (n, *A) for n environments as new arrays, Box actions rounded to the space's type and clipped.

        For a Tuple or Dict of actions they are a tuple or dict of arrays, as Gymnasium's vector environments take them.
        """
        space = self.of_env
        if isinstance(space, spaces.Dict | spaces.Tuple):
            return _divided(space, iter(self._columns(actions)))
        assert space.shape is not None
        if isinstance(space, spaces.Box):
            if space.dtype.kind != "f":
                actions = np.rint(actions)
            return actions.clip(space.low, space.high).astype(space.dtype, copy=False)
        return actions.astype(space.dtype).reshape(len(actions), *space.shape)

    def rows(self, actions: np.ndarray) -> Any:
        """The action of each of n environments, as its ``step`` takes it."""
        if isinstance(self.of_env, spaces.Dict | spaces.Tuple):
            given = self.to_env(actions)
            return [row_of(given, i) for i in range(len(actions))]
        return self.to_env(actions)

    def _columns(self, actions: np.ndarray) -> Iterator[Any]:
        """The actions of each part of a Tuple or Dict, in order."""
        at = 0
        for part in action_parts(self.of_env):
            own = Actions.for_space(part)
            size = int(np.prod(own.space.shape or ()))
            columns = actions[:, at : at + size]
            yield own.to_env(columns.reshape(len(actions), *(own.space.shape or ())))
            at += size


def mapped(function: Callable[[Any], Any], actions: Any) -> Any:
    """Actions with a function applied to each of their arrays, which may be in tuples and dicts."""
    if isinstance(actions, dict):
        return {name: mapped(function, part) for name, part in actions.items()}
    if isinstance(actions, tuple):
        return tuple(mapped(function, part) for part in actions)
    return function(actions)


def row_of(actions: Any, index: int) -> Any:
    """One of several actions, which may be arrays in tuples and dicts."""
    return mapped(lambda array: array[index], actions)


def _divided(space: spaces.Space, columns: Iterator[Any]) -> Any:
    """Columns in the tuples and dicts of a space."""
    if isinstance(space, spaces.Dict):
        return {name: _divided(part, columns) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_divided(part, columns) for part in space.spaces)
    return next(columns)


def check_space(space: Any, name: str) -> None:
    """Checks that what an environment has as a space is one.

    Raises:
        ConfigError: It is something else.
    """
    if not isinstance(space, spaces.Space):
        raise ConfigError(
            f"{name} is {space!r}, which is no space of Gymnasium's.",
            f"Set self.{name} in __init__, such as spaces.Box(-1, 1, (3,)) or spaces.Discrete(2).",
        )


def _named(space: spaces.Space) -> str:
    """The space with its kind, in a few words, since text and graph spaces print many lines."""
    kind, text = type(space).__name__, str(space)
    if len(text) > 60:
        return f"{kind} space"
    return text if text.startswith(kind) else f"{kind} space {text}"
