"""Columns of a dataset, and the way between them and values of Gymnasium's spaces.

An observation that is a Dict or Tuple, to any depth, becomes a column for each of its parts: ``obs.camera.left``. Text
becomes the numbers of its characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.tensor_file import TYPES
from rltrain.errors import DatasetError

OBS, ACTION, REWARD, TERMINATED, TRUNCATED, INFO = "obs", "action", "reward", "terminated", "truncated", "info"
FINAL = "final."
"""What the names of arrays with the values after the last step of each episode begin with."""
ENDS = (TERMINATED, TRUNCATED)
NO_CHARACTER = -1  # fills up a text to the longest that its space has


@dataclass(frozen=True)
class Column:
    """A column of a dataset.

    Attributes:
        dtype: NumPy's name of its type.
        shape: Shape of one row.
        state: Whether it has a value before and after every step, as observations have, and not one for each step.
    """

    dtype: str
    shape: tuple[int, ...]
    state: bool

    def as_json(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"dtype": self.dtype, "shape": list(self.shape), "state": self.state}

    @classmethod
    def from_json(cls, data: Any) -> Column:
        """The inverse of :meth:`as_json`.

        Raises:
            ValueError: It describes no column.
        """
        shape = data["shape"]
        if not all(type(side) is int and 0 <= side < 2**31 for side in shape) or data["dtype"] not in TYPES.values():
            raise ValueError(f"a column cannot be {str(data)[:100]}")
        return cls(data["dtype"], tuple(shape), bool(data["state"]))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


def is_state(name: str) -> bool:
    """Whether a column of this name has a value before and after every step."""
    return name.partition(".")[0] in (OBS, INFO)


def check_columns(columns: Mapping[str, Column], observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Checks that there are the columns that every dataset has, and those of its spaces.

    Raises:
        ValueError: One is missing, or is not of its kind.
    """
    for name in (REWARD, *ENDS):
        if name not in columns or columns[name].shape != ():
            raise ValueError(f"'{name}' has no single value for each step")
    if any(columns[name].dtype != "bool" for name in ENDS):
        raise ValueError(f"{' and '.join(ENDS)} are not true or false")
    wanted = {*leaves_of(observation_space, OBS), *leaves_of(action_space, ACTION)}
    there = {name for name in columns if name.partition(".")[0] in (OBS, ACTION)}
    if differing := sorted(wanted ^ there):
        raise ValueError(f"'{differing[0]}' is {'not there' if differing[0] in wanted else 'of neither space'}")
    if any(is_state(name) != column.state for name, column in columns.items()):
        raise ValueError("a column is not of its kind")


def leaves_of(space: spaces.Space, root: str) -> dict[str, spaces.Space]:
    """The columns for values of a space, by name, with the space of each.

    Raises:
        DatasetError: A part of it has no fixed size, or two parts have one name.
    """
    leaves: dict[str, spaces.Space] = {}
    for name, leaf in _walk(space, root):
        if not isinstance(leaf, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Text):
            raise DatasetError(
                f"A dataset has no column for a {type(leaf).__name__} space, as in '{name}'.",
                "Wrap the environment so that it gives Box, Discrete, MultiDiscrete, MultiBinary, Text, Dict or Tuple.",
            )
        if name in leaves:
            raise DatasetError(f"Two parts of a space are named '{name}'.", "Rename one of them.")
        leaves[name] = leaf
    return leaves


def _walk(space: spaces.Space, name: str) -> Iterator[tuple[str, spaces.Space]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _walk(part, f"{name}.{key}")
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _walk(part, f"{name}.{index}")
    else:
        yield name, space


def shape_of(space: spaces.Space) -> tuple[int, ...]:
    """The shape of a row of a column with values of this space."""
    return (int(space.max_length),) if isinstance(space, spaces.Text) else tuple(space.shape or ())


def flatten(space: spaces.Space, values: Any, root: str) -> dict[str, np.ndarray]:
    """Values of a space, T of them in nested dicts and tuples of arrays, as columns.

    Raises:
        DatasetError: They do not have the form of the space.
    """
    columns = {}
    for name, leaf in leaves_of(space, root).items():
        part = values
        try:
            for key in _keys(space, name, root):
                part = part[key]
        except (LookupError, TypeError) as error:
            raise DatasetError(f"There is no '{name}' where its space has one.", "The file is damaged.") from error
        array = text_to_codes(part, int(leaf.max_length)) if isinstance(leaf, spaces.Text) else np.asarray(part)
        if array.shape[1:] != shape_of(leaf):
            shapes = f"the shape {array.shape[1:]} in a row, and its space has {shape_of(leaf)}"
            raise DatasetError(f"'{name}' has {shapes}.", "Give each row the shape of the space.")
        columns[name] = array
    return columns


def unflatten(space: spaces.Space, columns: Mapping[str, np.ndarray], root: str) -> Any:
    """The inverse of :func:`flatten`."""
    if isinstance(space, spaces.Dict):
        return {key: unflatten(part, columns, f"{root}.{key}") for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(unflatten(part, columns, f"{root}.{index}") for index, part in enumerate(space.spaces))
    return codes_to_text(columns[root]) if isinstance(space, spaces.Text) else columns[root]


def _keys(space: spaces.Space, name: str, root: str) -> list[Any]:
    """The keys and indices that lead to a leaf."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            here = f"{root}.{key}"
            if any(inner == name for inner, _ in _walk(part, here)):
                return [key, *_keys(part, name, here)]
    return []


def text_to_codes(texts: Sequence[str], length: int) -> np.ndarray:
    """Texts as (T, length) int32, filled up with :data:`NO_CHARACTER`.

    Raises:
        DatasetError: One is longer.
    """
    codes = np.full((len(texts), length), NO_CHARACTER, np.int32)
    for row, text in zip(codes, texts, strict=True):
        if len(text) > length:
            raise DatasetError(f"A text has {len(text)} characters, and its space at most {length}.", "Shorten it.")
        row[: len(text)] = [ord(character) for character in text]
    return codes


def codes_to_text(codes: np.ndarray) -> list[str]:
    """The inverse of :func:`text_to_codes`."""
    return ["".join(chr(code) for code in row if 0 <= code < 0x110000) for row in codes.tolist()]
