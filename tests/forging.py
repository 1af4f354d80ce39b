"""Values of wrong types put into the JSON of run folders and others by somebody who mends all checksums afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rltrain.runs.layout import MANIFEST, list_checkpoints
from rltrain.storage.records import CHECKSUM, sealed

WRONG: tuple[Any, ...] = (None, "x", -1, 2.5, True, 10**30, [], {}, [[]])

Place = tuple[str | int, ...]


def newest(run: Path) -> Path:
    """The newest checkpoint."""
    return list_checkpoints(run / "checkpoints")[-1]


def files(run: Path) -> list[Path]:
    """The files of a run that hold JSON, those of its newest checkpoint alone."""
    return [
        run / "metadata.json",
        run / "checkpoints" / "best.json",
        newest(run) / MANIFEST,
        newest(run) / "state.json",
    ]


def places(run: Path) -> Iterator[tuple[str, Place]]:
    """Every value and every branch in them: the file relative to the run, and the keys on the way to it."""
    for path in files(run):
        yield from ((str(path.relative_to(run)), place) for place in places_in(path))


def places_in(path: Path) -> Iterator[Place]:
    """Every value and every branch in a file of JSON: the keys on the way to it."""
    data = json.loads(path.read_text())
    data.pop(CHECKSUM, None)
    yield from _inside(data, ())


def _inside(data: Any, above: Place) -> Iterator[Place]:
    parts = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, part in parts:
        yield (*above, key)
        yield from _inside(part, (*above, key))


def put(data: Any, place: Place, value: Any) -> None:
    """Puts a value in a place of JSON."""
    for key in place[:-1]:
        data = data[key]
    data[place[-1]] = value


def forge(run: Path, file: str, place: Place, value: Any) -> None:
    """Puts a value in a place, and mends the checksums."""
    path = run / file
    data = json.loads(path.read_text())
    is_sealed = data.pop(CHECKSUM, None) is not None
    put(data, place, value)
    path.write_text(sealed(data) if is_sealed else json.dumps(data, indent=1))
    if path.name == "state.json" and not is_sealed:
        manifest = json.loads((path.parent / MANIFEST).read_text())
        del manifest[CHECKSUM]
        content = path.read_bytes()
        manifest["files"][path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (path.parent / MANIFEST).write_text(sealed(manifest))
