"""Looks through an HDF5 file that somebody else may have made, before anything is read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rltrain.storage.files import Damaged, open_file

MOST_BYTES = 2**33
"""Of one array: more is taken for a file that is made to fill the memory."""
DEPTH = 50
"""Groups in groups."""


def check_hdf5(path: Path) -> None:
    """Refuses links out of the file or inside it, arrays that lie elsewhere, and such as are impossibly large.

    Raises:
        OSError: It is no regular file, or no HDF5.
        Damaged: There is one of these.
    """
    import h5py

    open_file(path).close()

    def look(group: Any, depth: int = 0) -> None:
        if depth > DEPTH:
            raise Damaged(f"{path.name} is nested too deeply")
        for key in group:
            link = group.get(key, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise Damaged(f"'{key}' in {path.name} is a link to somewhere else")
            thing = group[key]
            if isinstance(thing, h5py.Group):
                look(thing, depth + 1)
            elif thing.is_virtual or thing.external:
                raise Damaged(f"'{key}' in {path.name} lies in another file")
            elif thing.size * thing.dtype.itemsize > MOST_BYTES:
                raise Damaged(f"'{key}' in {path.name} has {thing.size * thing.dtype.itemsize:,} bytes")

    with h5py.File(path, "r") as file:
        look(file)
