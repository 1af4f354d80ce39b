"""Checks what an environment gives in every step, before NumPy makes it fit the array that it is written into.

NumPy fills a whole row with a single number, and makes 0 of 0.9 and 44 of 300 in an array of bytes. The usual case
costs a comparison of shape and type; only what is unusual is looked at closely.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rltrain.adapters.spaces import Leaf
from rltrain.spaces import categories_of

NUMBERS = [np.dtype(code) for code in "?bhilqBHILQefdg"]


class NotAsPromised(ValueError):
    """An environment gave something that does not fit its spaces.

    Attributes:
        row: The environment, where several were looked at.
    """

    def __init__(self, what: str, row: int | None = None) -> None:
        super().__init__(what)
        self.row = row


class Part:
    """An array that a part of observations is written into.

    Args:
        array: The array (n, *shape).
        leaf: What is written there.
    """

    def __init__(self, array: np.ndarray, leaf: Leaf) -> None:
        self.array, self.path, self.leaf = array, leaf.path, leaf
        self.shape, self.scalar = leaf.shape, not leaf.shape
        self.low, self.high = map(self._in_shape, categories_of(leaf.space) or (None, None))
        self.one_category = self.scalar and self.low is not None
        # Types whose numbers all fit. Large ones may overflow to infinity, which the watch on a run finds.
        real = leaf.dtype.kind == "f"
        self._seen: np.dtype | None = None  # that of the last value: a comparison by identity is faster than by a set
        self.fitting = {kind for kind in NUMBERS if real or np.can_cast(kind, leaf.dtype, "safe")}

    def write(self, i: int, obs: Any) -> None:
        """Writes this part of an observation of one environment to row ``i``.

        Raises:
            NotAsPromised: It has another shape, or numbers that its space does not have.
        """
        value = obs
        try:
            for key in self.path:
                value = value[key]
        except (LookupError, TypeError) as error:
            has = f"the entries {sorted(map(str, obs))}" if isinstance(obs, dict) else f"{reprlib.repr(obs)}"
            raise NotAsPromised(f"the observation is {has}, and its space has '{self.leaf.name}'") from error
        if not (self.one_category and value.__class__ is int):
            try:
                fits = (value.dtype is self._seen or value.dtype in self.fitting) and value.shape == self.shape
            except AttributeError:
                fits = False
            if fits:
                self._seen = value.dtype
            else:
                value = self._looked_at(value, self.shape)
        if self.one_category and not self.low <= value <= self.high:
            raise NotAsPromised(f"{self.name} is {value}, and its space is {self.leaf.space}")
        try:
            self.array[i] = value
        except (TypeError, ValueError) as error:  # a space, say, which has a shape and a type too
            raise NotAsPromised(f"{self.name} is no array: {reprlib.repr(value)}") from error

    def all_of(self, obs: Any) -> np.ndarray:
        """This part of the observations of all environments, which were stepped together.

        Raises:
            NotAsPromised: It has another shape, or numbers that its space does not have.
        """
        value, shape = self.leaf.of(obs), (len(self.array), *self.shape)
        if not (isinstance(value, np.ndarray) and value.dtype in self.fitting and value.shape == shape):
            value = self._looked_at(value, shape)
        self.check_range(value)
        return value

    def check_range(self, rows: np.ndarray) -> None:
        """Checks that rows are categories of the space, if it has some.

        Raises:
            NotAsPromised: One is not.
        """
        if self.low is None:
            return
        outside = (rows < self.low) | (rows > self.high)
        if outside.any():
            row, *_ = map(int, np.argwhere(outside)[0])
            raise NotAsPromised(f"{self.name} holds {rows[outside].flat[0]}, and its space is {self.leaf.space}", row)

    @property
    def name(self) -> str:
        """What it is, in words."""
        return f"the observation '{self.leaf.name}'" if self.leaf.name else "the observation"

    def _in_shape(self, bound: Any) -> Any:
        """A bound in the shape of the environment, if it is one for each category of several."""
        return bound.reshape(self.shape) if isinstance(bound, np.ndarray) else bound

    def _looked_at(self, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        """The value as an array of this shape and type, if it is the same in it."""
        try:
            array = np.asarray(value)
        except Exception as error:
            raise NotAsPromised(f"{self.name} is no array: {reprlib.repr(value)}") from error
        if array.shape != shape:
            what = f"{self.name} is of shape {array.shape}, and its space has {shape}"
            raise NotAsPromised(f"{what}: {reprlib.repr(value)}")
        if array.dtype.kind not in "fiub":
            raise NotAsPromised(f"{self.name} holds no numbers: {reprlib.repr(value)}")
        if array.dtype in self.fitting:
            return array
        with np.errstate(all="ignore"):
            cast = array.astype(self.array.dtype)
        if not np.array_equal(cast, array):
            first = array[cast != array].flat[0]
            raise NotAsPromised(f"{self.name} holds {first}, and its space is of {self.leaf.dtype}")
        return cast


def reward_of(value: Any) -> float:
    """A reward as a number, also if it is an array with one.

    Raises:
        NotAsPromised: It is no single number.
    """
    if np.size(value) != 1:
        several = "; --env.reward-weights makes one of several" if np.ndim(value) == 1 else ""
        what = f"the reward is of shape {np.shape(value)}, and must be a single number"
        raise NotAsPromised(f"{what}: {reprlib.repr(value)}{several}")
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text")
        return float(np.asarray(value).reshape(()) if np.ndim(value) else value)
    except (TypeError, ValueError):
        raise NotAsPromised(f"the reward is no number: {reprlib.repr(value)}") from None


def info_of(value: Any) -> dict[str, Any]:
    """What a step gives beside the rest.

    Raises:
        NotAsPromised: It is no dict.
    """
    if not isinstance(value, Mapping):
        raise NotAsPromised(f"info is {reprlib.repr(value)}, and must be a dict")
    return dict(value)


def flag_of(name: str, value: Any) -> bool:
    """``terminated`` or ``truncated`` as a bool.

    Raises:
        NotAsPromised: It is no bool.
    """
    if np.shape(value) != () or value not in (False, True):
        raise NotAsPromised(f"{name} is neither true nor false: {reprlib.repr(value)}")
    return bool(value)


def check_rows(name: str, value: Any, n: int) -> Any:
    """Numbers or bools of ``n`` environments that were stepped together.

    Raises:
        NotAsPromised: They have another shape.
    """
    if np.shape(value) != (n,):
        raise NotAsPromised(f"{name} is of shape {np.shape(value)} for {n} environments: {reprlib.repr(value)}")
    return value
