"""The inputs and outputs of an exported policy: names, shapes and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rltrain.storage.files import Damaged

OBS, STATE, NEXT_STATE, START, ACTION = "obs", "state", "next_state", "episode_start", "action"


@dataclass(frozen=True)
class Array:
    """An input or output: N rows of numbers.

    Attributes:
        name: Its name in the file.
        shape: The shape of a row.
        dtype: NumPy's name of its type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str

    def zeros(self, rows: int) -> np.ndarray:
        """An array of zeros (rows, *shape)."""
        return np.zeros((rows, *self.shape), self.dtype)


@dataclass(frozen=True)
class Signature:
    """What goes into an exported policy and what comes out.

    Attributes:
        observations: One array for each part of the environment's observation: ``obs``, or ``obs.a.b`` for what is
            behind ``obs["a"]["b"]``.
        state: The recurrent state before the observations, ``state`` or ``state.hidden``; empty without memory. The
            state after them is an output, ``next_state`` or ``next_state.hidden``.
        action: The environment's own action.
    """

    observations: tuple[Array, ...]
    state: tuple[Array, ...]
    action: Array

    @property
    def inputs(self) -> tuple[Array, ...]:
        """All inputs in order. With memory the last one is ``episode_start``: rows whose state is reset first."""
        start = (Array(START, (), "bool"),) if self.state else ()
        return (*self.observations, *self.state, *start)

    @property
    def outputs(self) -> tuple[Array, ...]:
        """All outputs in order."""
        return (self.action, *(Array(next_name(part.name), part.shape, part.dtype) for part in self.state))

    def to_json(self) -> dict[str, Any]:
        """The inputs and outputs as plain data."""
        return {
            name: [{"name": each.name, "shape": list(each.shape), "dtype": each.dtype} for each in getattr(self, name)]
            for name in ("inputs", "outputs")
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """The inverse of :meth:`to_json`.

        Raises:
            Damaged: It describes no policy.
        """
        try:
            inputs = [_array(each) for each in data["inputs"]]
            action, *_ = [_array(each) for each in data["outputs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged(f"its inputs and outputs are not described: {error}") from error
        state = tuple(each for each in inputs if each.name.partition(".")[0] == STATE)
        observations = tuple(each for each in inputs if each.name.partition(".")[0] == OBS)
        signature = cls(observations, state, action)
        if signature.to_json() != {name: [dict(each) for each in data[name]] for name in ("inputs", "outputs")}:
            raise Damaged("its inputs and outputs are not those of a policy")
        return signature


def next_name(name: str) -> str:
    """The output that belongs to an input of the state."""
    return NEXT_STATE + name.removeprefix(STATE)


def _array(data: Mapping[str, Any]) -> Array:
    name, shape, dtype = str(data["name"]), data["shape"], str(data["dtype"])
    if not isinstance(shape, list) or any(type(side) is not int or not 0 <= side < 2**31 for side in shape):
        raise ValueError(f"'{name}' has the shape {shape}")
    if np.dtype(dtype).kind not in "fiub":
        raise ValueError(f"'{name}' has the type {dtype}")
    return Array(name, tuple(shape), dtype)
