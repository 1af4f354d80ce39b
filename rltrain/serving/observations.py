"""Observations from outside: checked against the environment's space before a policy sees them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.adapters.spaces import Leaf, observation_leaves
from rltrain.errors import InputError
from rltrain.export.signature import OBS
from rltrain.spaces import categories_of

FIX = "Give observations of the space that GET /model tells."


class Observations:
    """Turns observations into the inputs of a policy, or says what is wrong with them.

    Args:
        space: The environment's own space of an observation.
    """

    def __init__(self, space: spaces.Space) -> None:
        self.leaves, _ = observation_leaves(space)
        self.names = [f"{OBS}.{leaf.name}" if leaf.name else OBS for leaf in self.leaves]

    def of_rows(self, rows: Sequence[Any]) -> dict[str, np.ndarray]:
        """Inputs by name for observations in lists, dicts and numbers, as JSON has them.

        Raises:
            InputError: One is outside the space.
        """
        return {
            name: self._checked(name, leaf, [self._part(name, leaf, row) for row in rows])
            for name, leaf in zip(self.names, self.leaves, strict=True)
        }

    def of_arrays(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs by name for arrays (N, ...) under the same names.

        Raises:
            InputError: One is missing, there is one too many, or an observation is outside the space.
        """
        if missing := [name for name in self.names if name not in arrays]:
            raise InputError(f"'{missing[0]}' is missing", FIX)
        if unknown := [name for name in arrays if name not in self.names]:
            raise InputError(f"there is no {reprlib.repr(unknown[0])}", FIX)
        checked = {
            name: self._checked(name, leaf, arrays[name]) for name, leaf in zip(self.names, self.leaves, strict=True)
        }
        if len({len(array) for array in checked.values()}) != 1:
            raise InputError("the parts have different numbers of rows", FIX)
        return checked

    def _part(self, name: str, leaf: Leaf, row: Any) -> Any:
        for key in leaf.path:
            if isinstance(key, str):
                there = isinstance(row, dict) and key in row
            else:
                there = isinstance(row, list) and key < len(row)
            if not there:
                raise InputError(f"'{name}' is missing", FIX)
            row = row[key]
        return row

    def _checked(self, name: str, leaf: Leaf, given: Any) -> np.ndarray:
        try:
            array = np.asarray(given)
        except (ValueError, OverflowError) as error:
            raise InputError(f"{name} is no array of numbers", FIX) from error
        if array.dtype.kind not in "fiub":
            raise InputError(f"{name} holds no numbers: {reprlib.repr(given)}", FIX)
        if array.ndim != len(leaf.shape) + 1 or array.shape[1:] != leaf.shape:
            raise InputError(f"{name} has the shape {array.shape[1:]}, expected {leaf.shape}", FIX)
        if array.dtype.kind == "f":
            if leaf.dtype.kind == "f":  # a number such as 0.1 is within a bound that was rounded as it will be
                with np.errstate(over="ignore"):
                    array = array.astype(leaf.dtype)
            if (bad := ~np.isfinite(array)).any():
                raise InputError(f"{_where(name, bad)} is {array[bad][0]}", FIX)
        low, high = _bounds(leaf)
        for wrong, words in ((array < low, "below"), (array > high, "above")):
            if wrong.any():
                bound = np.broadcast_to(low if words == "below" else high, array.shape)[wrong][0]
                raise InputError(f"{_where(name, wrong)} = {array[wrong][0]} is {words} {bound}", FIX)
        typed = np.ascontiguousarray(array, leaf.dtype)
        if leaf.dtype.kind != "f" and (wrong := typed != array).any():
            raise InputError(f"{_where(name, wrong)} = {array[wrong][0]} is no whole number", FIX)
        return typed


def _where(name: str, wrong: np.ndarray) -> str:
    """The place of the first number that is wrong, in its observation; the row too where there are several."""
    row, *place = (int(index) for index in np.argwhere(wrong)[0])
    spot = f"[{', '.join(map(str, place))}]" if place else ""
    return f"{name}{spot}" + (f" of observation {row}" if len(wrong) > 1 else "")


def _bounds(leaf: Leaf) -> tuple[Any, Any]:
    """The lowest and the highest number of a part."""
    if isinstance(leaf.space, spaces.Box):
        return leaf.space.low.reshape(leaf.shape), leaf.space.high.reshape(leaf.shape)
    low, high = categories_of(leaf.space) or (-np.inf, np.inf)
    return (np.asarray(each).reshape(leaf.shape) if np.ndim(each) else each for each in (low, high))  # type: ignore[return-value]
