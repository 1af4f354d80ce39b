"""Segments: parts of large tensors in files of their own, which the checkpoints of a run share by hard links.

A segment is named after the version of its content and is never written to again. A checkpoint holds all of its
segments, so it is whole by itself, wherever it is copied or moved to and whatever becomes of the others. One that the
checkpoint before has already is linked. Where links are impossible it is written again.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from rltrain.ring import Ring
from rltrain.storage.files import link, write_new

SEGMENT = "segment_"
SEPARATOR = "/"

Entry = dict[str, Any]
"""What the manifest says of a file: ``bytes`` and ``sha256``."""


class Segments:
    """The segments that a rank has in the newest checkpoint, which the next one can share.

    Args:
        folder: That checkpoint; None if there is none.
        entries: The entries of the manifest for them, by file name.
    """

    def __init__(self, folder: Path | None = None, entries: Mapping[str, Entry] | None = None) -> None:
        self.folder = folder
        self.entries = dict(entries or {})

    def missing(self, ring: Ring) -> list[int]:
        """The numbers of a ring's segments that are not there."""
        return [number for number, version in enumerate(ring.versions) if file_of(version) not in self.entries]

    def put(self, folder: Path, ring: Ring) -> dict[str, Entry]:
        """Puts all segments of a ring into a folder and returns the entries of the manifest for them.

        Raises:
            OSError: They cannot be written.
        """
        entries: dict[str, Entry] = {}
        for name in map(file_of, ring.versions):
            if name in self.entries and self._link(name, folder):
                entries[name] = self.entries[name]
        for number in ring.order():
            name = file_of(ring.versions[number])
            if name not in entries:
                with ring.segment(number) as trees:
                    data = save({path: tensor.contiguous() for path, tensor in flat(trees).items()})
                write_new(folder / name, data)
                entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        return entries

    def _link(self, name: str, folder: Path) -> bool:
        """Whether a segment could be linked; what is there must at least have the right size."""
        assert self.folder is not None
        source = self.folder / name
        try:
            status = source.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_size != self.entries[name]["bytes"]:
                return False
            link(source, folder / name)
        except OSError:
            return False
        return True


def describe(ring: Ring) -> dict[str, Any]:
    """What :func:`load` needs to know of a ring, as a JSON value."""
    return {"rows": ring.rows, "size": ring.size, "versions": ring.versions}


def load(description: Mapping[str, Any], read: Callable[[str], dict[str, Tensor]]) -> Ring:
    """The ring that is stored in a checkpoint's segments.

    Args:
        description: What :func:`describe` gave.
        read: Gives the tensors in a file.

    Raises:
        KeyError: The description is not one.
        TypeError: The same.
        ValueError: The segments do not make up this ring.
    """
    rows, size, versions = (description[name] for name in ("rows", "size", "versions"))
    files = [read(file_of(version)) for version in versions]
    names = list(files[0]) if files else []
    if any(list(file) != names for file in files):
        raise ValueError("its segments hold different tensors")
    trees: dict[str, Any] = {}
    for name in names:
        parts = [file[name] for file in files]
        lengths = [len(part) for part in parts]
        if sum(lengths) != rows or any(length != size for length in lengths[:-1]):
            raise ValueError(f"its segments have {sum(lengths)} rows instead of {rows}")
        put(trees, name, torch.cat(parts))
    return Ring(trees, size, versions, fresh=True)


def file_of(version: str) -> str:
    """The file name of a segment.

    Raises:
        ValueError: The version is not one that a ring gives.
    """
    if not (isinstance(version, str) and len(version) == 16 and set(version) <= set("0123456789abcdef")):
        raise ValueError(f"'{version}' is no segment")
    return f"{SEGMENT}{version}.safetensors"


def flat(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of nested mappings by their paths."""
    found: dict[str, Tensor] = {}
    for key, value in tree.items():
        here = (*path, escaped(str(key)))
        found |= {SEPARATOR.join(here): value} if isinstance(value, Tensor) else flat(value, here)
    return found


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Puts a value into nested dicts at a path."""
    *parents, leaf = map(unescaped, path.split(SEPARATOR))
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ValueError(f"'{parent}' is no branch of it")
    tree[leaf] = value


def escaped(key: str) -> str:
    """A key as a part of a path, as in JSON Pointer (RFC 6901): names of observations may hold a separator."""
    return key.replace("~", "~0").replace(SEPARATOR, "~1")


def unescaped(part: str) -> str:
    """The key that a part of a path stands for."""
    return part.replace("~1", SEPARATOR).replace("~0", "~")
