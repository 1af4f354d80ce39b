"""What the entries of a dataset's manifest must be, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _list_of(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _entry(value: Any) -> bool:
    """Whether a value is the entry of a file."""
    return (
        isinstance(value, dict)
        and _text(value.get("file"))
        and _text(value.get("sha256"))
        and _whole(value.get("bytes"))
    )


def _part(value: Any) -> bool:
    return _entry(value) and _whole(value.get("steps")) and _whole(value.get("ends"))


def _environment(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and _text(value.get("id")) and isinstance(value.get("options"), dict)
    )


def _range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)


KINDS: dict[str, tuple[bool, Callable[[Any], bool]]] = {
    "name": (True, _text),
    "how": (False, _text),
    "environment": (False, _environment),
    "policies": (True, _list_of(lambda value: isinstance(value, dict) and _text(value.get("name")))),
    "groups": (True, lambda value: isinstance(value, dict) and all(map(_list_of(_text), value.values()))),
    "ancestors": (True, _list_of(_text)),
    "parts": (True, _list_of(_part)),
    "table": (True, _entry),
    "personal": (
        False,
        _list_of(
            lambda value: isinstance(value, dict) and _text(value.get("column")) and _text(value.get("treatment"))
        ),
    ),
    "reward_range": (False, _range),
    "minari": (False, lambda value: isinstance(value, dict)),
}
"""By name: whether every manifest has the entry, and what tells that it is as it should be."""


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Checks the entries that are read without a check of their own.

    Raises:
        ValueError: One is not what it must be; says which.
    """
    for name, (always, fits) in KINDS.items():
        if name not in manifest:
            if always:
                raise ValueError(f"'{name}' is missing")
        elif not fits(manifest[name]):
            raise ValueError(f"'{name}' is not what it must be")
