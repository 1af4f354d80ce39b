"""JSON that somebody else may have written: read within bounds, with a checksum where we wrote it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rltrain.storage.files import TEXT_LIMIT, Damaged, read_text

DEPTH_LIMIT = 100
"""Levels of nesting."""
CHECKSUM = "checksum"


def read_json(path: Path, limit: int = TEXT_LIMIT) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: It cannot be read.
        Damaged: It is longer than ``limit`` bytes, nested too deeply, or not a JSON object.
    """
    return parse_json(read_text(path, limit))


def parse_json(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Damaged: It is nested too deeply, or not a JSON object.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Damaged(f"it is not JSON: {error}") from error
    except RecursionError as error:
        raise Damaged("it is nested too deeply") from error
    if not isinstance(data, dict):
        raise Damaged("it holds no JSON object")
    level: list[Any] = [data]
    for _ in range(DEPTH_LIMIT):
        inner = (x.values() if isinstance(x, dict) else x for x in level)
        level = [part for each in inner for part in each if isinstance(part, dict | list)]
        if not level:
            return data
    raise Damaged("it is nested too deeply")


def sealed(data: Mapping[str, Any]) -> str:
    """Entries as JSON whose last one is a checksum of the others."""
    return _with_checksum(json.loads(json.dumps(dict(data))))


def unsealed(text: str) -> tuple[dict[str, Any], bool]:
    """The entries in what :func:`sealed` gave without their checksum, and whether not a letter of it was changed.

    Older files have no checksum, and count as unchanged.

    Raises:
        Damaged: It is nested too deeply, or not a JSON object.
    """
    data = parse_json(text)
    *others, last = data.items() or [("", None)]
    if not (isinstance(last[1], str) and len(last[1]) == 64):  # by its form, so that a damaged name is seen too
        return data, True
    return dict(others), text == _with_checksum(dict(others))


def read_record(path: Path) -> dict[str, Any]:
    """The entries of a file that holds what :func:`sealed` gave.

    Raises:
        OSError: It cannot be read.
        Damaged: It was changed, or is no such file.
    """
    data, unchanged = unsealed(read_text(path))
    if not unchanged:
        raise Damaged("it was changed: its checksum differs")
    return data


def now() -> str:
    """The time in UTC, as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _with_checksum(data: dict[str, Any]) -> str:
    checksum = hashlib.sha256(json.dumps(data, indent=1).encode()).hexdigest()
    return json.dumps({**data, CHECKSUM: checksum}, indent=1)
