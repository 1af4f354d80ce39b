"""Files of arrays: written by safetensors, and mapped into memory after their header was checked."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from rltrain.storage.files import MIB, Damaged, open_file, write_new
from rltrain.storage.records import parse_json

HEADER_LIMIT = 16 * MIB
TYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
"""The types that a file may hold, and NumPy's names for them."""


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Writes a new file and returns its entry in a manifest: ``file``, ``bytes`` and ``sha256``.

    Raises:
        OSError: It cannot be written.
    """
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    write_new(path, content)
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, read from the disk when they are used.

    Raises:
        OSError: It cannot be read, or is no regular file.
        Damaged: Its header does not describe what is in it.
    """
    with open_file(path) as file:
        size, head = os.fstat(file.fileno()).st_size, file.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if 8 + length > size:
            raise Damaged("it is cut off")
        if length > HEADER_LIMIT:
            raise Damaged(f"its header is longer than {HEADER_LIMIT:,} bytes")
        entries = parse_json(file.read(length))
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    entries.pop("__metadata__", None)
    return {name: _array(mapped, entry, 8 + length, name) for name, entry in entries.items()}


def _array(mapped: mmap.mmap, entry: Any, start: int, name: str) -> np.ndarray:
    try:
        dtype, (begin, end) = np.dtype(TYPES[entry["dtype"]]), entry["data_offsets"]
        shape = tuple(entry["shape"])
        numbers = (*shape, begin, end)
    except (LookupError, TypeError, ValueError) as error:
        raise Damaged(f"its header does not describe '{name}'") from error
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise Damaged(f"its header gives '{name}' no possible size")
    count = math.prod(shape)
    if end - begin != count * dtype.itemsize or start + end > len(mapped):
        raise Damaged(f"its header gives '{name}' another size than it has")
    if not count:
        return np.empty(tuple(min(side, 2**31) for side in shape), dtype)
    return np.frombuffer(mapped, dtype, count, start + begin).reshape(shape)


def fault_in(path: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a file according to its entry in the manifest, reading all of it; None if nothing is.

    Raises:
        OSError: It cannot be read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["bytes"]:
            return f"it has {size} bytes instead of {entry['bytes']}"
        if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
            return "it was changed: its checksum differs"
    return None
