"""Constructor arguments of environments as plain data, and back: what a run folder holds of them.

Numbers, text, lists and dicts with text as keys are written as they are. Everything else becomes a mapping with one
key that begins with ``$``: ``{"$tuple": [1, 2]}``. No name in a file is ever imported: an enum is found through the
signature of the environment's constructor, and what cannot be written is a mark in its place, to be given again.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.errors import ConfigError

FEW = 100
"""Numbers of an array that are written one by one; more are written as base64."""


@dataclass(frozen=True)
class SavedEnum:
    """A member of an enumeration by the names of the two, until the environment's signature says which class it is."""

    kind: str
    member: str


@dataclass(frozen=True)
class Unsaved:
    """Stands for a value that could not be written.

    Attributes:
        kind: The name of the value's class.
    """

    kind: str


def to_plain(value: Any) -> Any:
    """A value as plain data that YAML writes and :func:`from_plain` reads back equal.

    What cannot be written becomes ``{"$unsaved": name of its class}``.
    """
    try:
        return _plain(value)
    except RecursionError:  # it contains itself
        return {"$unsaved": type(value).__name__}


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [_plain(each) for each in value]
    if kind is dict:
        if all(type(key) is str for key in value) and not (len(value) == 1 and next(iter(value)).startswith("$")):
            return {key: _plain(each) for key, each in value.items()}
        return {"$dict": [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, SavedEnum):
        return {"$enum": [value.kind, value.member]}
    if isinstance(value, Unsaved):
        return {"$unsaved": value.kind}
    if isinstance(value, Enum):
        return {"$enum": [kind.__name__, str(value.name)]}
    if (kind is np.ndarray or isinstance(value, np.generic)) and _is_writable(value.dtype):
        return _of_numpy(value)
    if kind in (set, frozenset):
        # In one order, so that equal sets make equal files.
        return {f"${kind.__name__}": sorted(map(_plain, value), key=repr)}
    for name, (cls, write, _) in KINDS.items():
        if kind is cls:
            return {name: write(value)}
    return {"$unsaved": kind.__name__}


def from_plain(data: Any) -> Any:
    """The inverse of :func:`to_plain`.

    Raises:
        ConfigError: A mapping with a ``$`` is not one that :func:`to_plain` writes.
    """
    if isinstance(data, list):
        return [from_plain(each) for each in data]
    if not isinstance(data, dict):
        return data
    content: Any
    name, content = next(iter(data.items())) if len(data) == 1 else ("", None)
    if not (isinstance(name, str) and name.startswith("$")):
        return {key: from_plain(each) for key, each in data.items()}
    try:
        match name:
            case "$dict":
                return {from_plain(key): from_plain(each) for key, each in content}
            case "$enum":
                return SavedEnum(*map(str, content))
            case "$unsaved":
                return Unsaved(str(content))
            case "$set":
                return set(map(from_plain, content))
            case "$frozenset":
                return frozenset(map(from_plain, content))
            case "$number" | "$array":
                return _to_numpy(name, content)
        return KINDS[name][2](content)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise ConfigError(
            f"'{name}' in the environment's arguments holds what no version of rltrain writes there.",
            "Mend the file, or leave that argument out and give it anew.",
        ) from error


KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "$tuple": (tuple, lambda value: [_plain(each) for each in value], lambda content: tuple(map(from_plain, content))),
    "$path": (type(Path()), str, Path),
    "$bytes": (
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
    ),
    "$complex": (complex, lambda value: [value.real, value.imag], lambda pair: complex(*pair)),
    "$range": (range, lambda value: [value.start, value.stop, value.step], lambda three: range(*three)),
    "$date": (date, date.isoformat, date.fromisoformat),
    "$datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
}
"""Further classes by their mark, with how to write and how to read them."""


def _is_writable(dtype: np.dtype) -> bool:
    """Whether numbers of a type are exact as Python's, or it is text."""
    most = {"b": 8, "i": 8, "u": 8, "f": 8, "U": 40_000}  # bytes by kind
    return dtype.names is None and dtype.itemsize <= most.get(dtype.kind, 0)


def _of_numpy(value: np.ndarray | np.generic) -> dict[str, Any]:
    if isinstance(value, np.generic):
        return {"$number": {"dtype": value.dtype.str, "value": value.item()}}
    content: dict[str, Any] = {"dtype": value.dtype.str, "shape": list(value.shape)}
    if value.size > FEW:
        return {"$array": {**content, "base64": base64.b64encode(value.tobytes()).decode()}}
    return {"$array": {**content, "values": value.ravel().tolist()}}


def _to_numpy(name: str, content: Mapping[str, Any]) -> Any:
    dtype = np.dtype(str(content["dtype"]))
    if not _is_writable(dtype):
        raise ValueError(dtype)
    if name == "$number":
        return dtype.type(content["value"])
    if "base64" in content:
        flat = np.frombuffer(base64.b64decode(content["base64"], validate=True), dtype).copy()
    else:
        flat = np.array(content["values"], dtype)
    return flat.reshape(content["shape"])


def restored(arguments: Mapping[str, Any], creator: Callable[[], Any], env_id: str) -> dict[str, Any]:
    """Saved constructor arguments with the members of enumerations in place of their names.

    Args:
        arguments: The arguments by name.
        creator: Gives the class or function that makes the environment, whose signature says which enumerations there
            are; called only where there are any.
        env_id: The environment's id, for errors.

    Raises:
        ConfigError: A value is not in the run folder, or the signature does not say which enumeration it is of.
    """
    if not not_held(arguments):
        return dict(arguments)
    known = {cls.__name__: cls for cls in _enums_of(creator())}
    given = {}
    for name, value in arguments.items():
        given[name] = _with_enums(value, known)
        if lost := _lost(given[name]):
            raise ConfigError(
                f"'{env_id}' was made with {name}={lost.kind}(...), which the run folder names but does not hold.",
                f"Give it again: rltrain.load(run, env_kwargs={{'{name}': ...}}), and the same for rltrain.resume.",
            )
    return given


def not_held(arguments: Mapping[str, Any]) -> list[str]:
    """The names of saved arguments that are not, or not surely, in the run folder."""
    return [name for name, value in arguments.items() if _lost(value)]


def _lost(value: Any) -> SavedEnum | Unsaved | None:
    """The first part of a value that stands for another one."""
    return next((part for part in _parts(value) if isinstance(part, SavedEnum | Unsaved)), None)


def _parts(value: Any) -> Iterator[Any]:
    yield value
    inside: Iterable[Any] = ()
    if type(value) is dict:
        inside = [*value, *value.values()]
    elif type(value) in (list, tuple, set, frozenset):
        inside = value
    for each in inside:
        yield from _parts(each)


def _with_enums(value: Any, known: Mapping[str, type[Enum]]) -> Any:
    """A value with the members of known enumerations in place of their names."""
    if isinstance(value, SavedEnum):
        return getattr(known.get(value.kind), "__members__", {}).get(value.member, value)
    if type(value) is dict:
        return {_with_enums(key, known): _with_enums(each, known) for key, each in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_with_enums(each, known) for each in value)
    return value


def _enums_of(creator: Callable[..., Any]) -> Iterator[type[Enum]]:
    """The enumerations in a signature: in its annotations and defaults."""
    try:
        signature = inspect.signature(creator)
    except (TypeError, ValueError):
        return
    function: Any = vars(creator).get("__init__", creator) if isinstance(creator, type) else creator
    names = vars(sys.modules.get(getattr(function, "__module__", ""), None) or object)
    names = {**names, **getattr(function, "__globals__", {})}
    for parameter in signature.parameters.values():
        yield from (type(part) for part in _parts(parameter.default) if isinstance(part, Enum))
        annotation = parameter.annotation
        if isinstance(annotation, str):
            yield from (names[word] for word in _words(annotation) if _is_enum(names.get(word)))
        yield from _enums_in(annotation)


def _enums_in(annotation: Any) -> Iterator[type[Enum]]:
    if _is_enum(annotation):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _enums_in(part)


def _is_enum(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Enum)


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isidentifier() or letter.isdigit() else " " for letter in text).split()
