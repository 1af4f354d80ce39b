"""Event files of TensorBoard on disk: written record by record, and rid of points that a resumed run logs again.

A record is the length of its content (8 bytes, little-endian), a checksum of these (4), the content, and a checksum of
it (4). The checksums are masked CRC-32C, as in TFRecord files.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG

from rltrain.storage.files import Damaged, keep_damaged, open_new, read_bytes, reason, write_atomically, write_end

FILES = "events.out.tfevents."
LIMIT = 2**29
"""Bytes of an event file that is read."""
AGAIN = ("config", CONFIG_SUMMARY_TAG)
"""Tags that each session writes again, beside those of HParams: the configuration and the charts."""
LONG = 2**14
"""Bytes of a record from which on its checksum is computed on its own."""
SEARCHES = 20_000
"""Places where the next whole record is looked for behind a damaged one."""
_LENGTH = re.compile(rb"(?=...\0\0\0\0\0)", re.DOTALL)  # of a record below 16 MiB


def event_files(run_dir: Path) -> dict[Path, int]:
    """The event files in a folder, oldest first, and the seconds in their names; other names are not looked at."""
    named = {
        path: re.match(rf"{re.escape(FILES)}(\d{{1,12}})(\.|$)", path.name, re.ASCII) for path in run_dir.iterdir()
    }
    return {path: int(found[1]) for path, found in sorted(named.items()) if found}


class RecordFile:
    """A new file to which whole records are appended: one that does not fit is taken back.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be made, or is there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._handle, self._end = path, open_new(path), 0
        self.closed = False

    def write(self, record: bytes) -> None:
        """Appends a record.

        Raises:
            OSError: It cannot be written, and nothing of it is left.
        """
        self._end = write_end(self._path, self._handle, self._end, record)

    def flush(self) -> None:
        """Does nothing: the system has every record."""

    def close(self) -> None:
        """Closes the file."""
        if not self.closed:
            self.closed = True
            os.close(self._handle)


def forget_after(run_dir: Path, step: int) -> dict[str, int]:
    """Removes from the event files the points after a step, and the entries that each session writes again.

    What cannot be read is not touched: of a damaged file a copy is kept, and every whole record stays.

    Returns:
        The step of the last point of each tag.
    """
    last: dict[str, int] = {}
    for file in event_files(run_dir):
        try:
            content = read_bytes(file, LIMIT)
        except (OSError, Damaged) as error:
            warnings.warn(f"'{file}' is left as it is: {reason(error)}.", stacklevel=2)
            continue
        kept, lost = bytearray(), 0
        for record, event in records(content):
            if event is None:
                lost += 1
                continue
            tags = [value.tag for value in event.summary.value]
            if event.step <= step and not any(tag in AGAIN or tag.startswith("_hparams_/") for tag in tags):
                kept += record
                last.update(dict.fromkeys(tags, event.step))
        if lost:
            copy = keep_damaged(file)
            warnings.warn(
                f"'{file}' is damaged in {lost} {'places' if lost > 1 else 'place'}. What is whole goes on being used; "
                f"the file as it was is '{copy.name}'.",
                stacklevel=2,
            )
        if kept != content:
            write_atomically(file, bytes(kept))
    return last


def records(content: bytes) -> Iterator[tuple[bytes, Event | None]]:
    """The records of an event file as bytes and parsed; None for bytes that are no whole record."""
    spans = list(_spans(content))
    starts = [start + 12 for start, _, framed in spans if framed]
    ends = [end - 4 for _, end, framed in spans if framed]
    computed = iter(_checksums(content, starts, ends))
    for start, end, framed in spans:
        record, event = content[start:end], None
        if framed and next(computed) == struct.unpack_from("<I", record, len(record) - 4)[0]:
            with suppress(DecodeError):
                event = Event.FromString(record[12:-4])
        yield record, event


def _spans(content: bytes) -> Iterator[tuple[int, int, bool]]:
    """Start and end of each record, and whether it is one: bytes between records are spans too."""
    start, searches = 0, SEARCHES
    while start < len(content):
        if (end := _end_of_record(content, start)) is not None:
            yield start, end, True
            start = end
            continue
        place = len(content)
        for found in _LENGTH.finditer(content, start + 1):
            if searches == 0:
                break
            searches -= 1
            if _end_of_record(content, found.start()) is not None:
                place = found.start()
                break
        yield start, place, False
        start = place


def _end_of_record(content: bytes, start: int) -> int | None:
    """Where the record at ``start`` ends, if its length has the right checksum and it is not cut off."""
    if start + 16 > len(content):
        return None
    length, checksum = struct.unpack_from("<QI", content, start)
    if start + 16 + length > len(content) or masked_crc32c(content[start : start + 8]) != checksum:
        return None
    return int(start + 16 + length)


def _checksums(content: bytes, starts: list[int], ends: list[int]) -> NDArray[np.uint32]:
    """The masked CRC-32C of parts of a file, computed for all short parts at once: one by one takes seconds."""
    sizes = np.array(ends, np.int64) - np.array(starts, np.int64)
    result = np.zeros(len(sizes), np.uint32)
    for index in np.flatnonzero(sizes > LONG):
        result[index] = masked_crc32c(content[starts[index] : ends[index]])
    short = np.flatnonzero(sizes <= LONG)
    short = short[np.argsort(-sizes[short], kind="stable")]  # so that those that go on are always the first ones
    data, first = np.frombuffer(content, np.uint8), np.array(starts, np.int64)[short]
    crc = np.full(len(short), 0xFFFFFFFF, np.uint32)
    going = len(short)
    for place in range(int(sizes[short].max(initial=0))):
        going = int(np.searchsorted(-sizes[short], -place, side="left"))
        part = crc[:going]
        crc[:going] = _TABLE[(part ^ data[first[:going] + place]) & 0xFF] ^ (part >> np.uint32(8))
    crc = ~crc
    result[short] = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)
    return result


def _table() -> NDArray[np.uint32]:
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> np.uint32(1)) ^ np.uint32(0x82F63B78), crc >> np.uint32(1))
    return crc.astype(np.uint32)


_TABLE = _table()
