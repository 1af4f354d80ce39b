"""The metrics of a run as a table, ``progress.csv``."""

from __future__ import annotations

import csv
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from rltrain.errors import CheckpointError
from rltrain.storage.files import (
    MIB,
    Damaged,
    is_gone,
    keep_damaged,
    may_be_whole,
    read_bytes,
    reason,
    write_atomically,
    write_end,
)
from rltrain.tracker import RunInfo, Tracker

STEP = "time/total_timesteps"
"""The first column."""
LIMIT = 64 * MIB
"""Bytes of a table that is read."""


class Table(NamedTuple):
    """The part of a table that can be read.

    Attributes:
        columns: The names of the columns; the step comes first.
        rows: The whole rows, each a cell by column.
        lost: Lines that are neither the header nor a whole row, one that is still being written included.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    lost: list[list[str]]


class CsvTracker(Tracker):
    """Writes ``progress.csv``: a row per step, a column per metric, an empty cell where a metric was not logged.

    Calls of :meth:`log` with the same step share a row. When a call returns, the system has its data: a
    killed process loses nothing. A new metric rewrites the file with a longer header, in one atomic replacement.

    Args:
        run: The run. If it resumes, rows after the resumed step are dropped; a new run starts a new table. Of a file
            with lines that cannot be read, a copy is kept, and a warning says so.
    """

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        self._path = run.run_dir / "progress.csv"
        self._handle: int | None = None
        table = Table([STEP], [], []) if run.resume_step is None else self._read(run.resume_step)
        self._columns = dict.fromkeys(table.columns)  # an ordered set
        self._row: dict[str, str] = {}  # the last row, whose bytes are from _row_start to _row_end
        self._row_start = self._row_end = 0
        self._rewrite([row for row in table.rows if int(row[STEP]) <= (run.resume_step or 0)])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds metrics to the row of their step."""
        cells = {" ".join(tag.split()): f"{float(value):.9g}" for tag, value in metrics.items() if tag != STEP}
        if self._row.get(STEP) != str(step):
            self._row, self._row_start = {STEP: str(step)}, self._row_end
        self._row |= cells
        if cells.keys() <= self._columns.keys():
            assert self._handle is not None
            self._row_end = write_end(self._path, self._handle, self._row_start, _line(self._row, self._columns))
        else:
            rows = [row for row in self._read(step).rows if row[STEP] != str(step)]
            self._columns |= dict.fromkeys(cells)
            self._rewrite([*rows, self._row])

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Adds the final metrics that were never logged to the last row."""
        unseen = {tag: value for tag, value in metrics.items() if tag not in self._columns}
        if self._row and unseen:
            self.log(unseen, int(self._row[STEP]))

    def close(self) -> None:
        """Closes the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _read(self, step: int) -> Table:
        """The table on disk; a copy is kept of one with lines up to a step that cannot be carried over."""
        try:
            table = _parse(read_bytes(self._path, LIMIT))
        except OSError as error:
            if not is_gone(error):
                raise
            return Table([STEP], [], [])
        lost = sum(not _is_number(line[0]) or int(line[0]) <= step for line in table.lost if line != [""])
        if lost:
            copy = keep_damaged(self._path)
            lines = f"{lost} lines" if lost > 1 else "a line"
            warnings.warn(
                f"'{self._path}' has {lines} that cannot be read. Its {len(table.rows)} whole rows go on being used; "
                f"the file as it was is '{copy.name}'.",
                stacklevel=2,
            )
        return table

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Replaces the whole file, and opens it for writing after its last row."""
        lines = [_line(row, self._columns) for row in rows]
        content = b"".join([_line({column: column for column in self._columns}, self._columns), *lines])
        write_atomically(self._path, content)
        self.close()
        self._handle = os.open(self._path, os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0))
        self._row = rows[-1] if rows else {}
        self._row_start, self._row_end = len(content) - (len(lines[-1]) if lines else 0), len(content)


def read_progress(path: Path) -> dict[str, list[float]]:
    """The columns of a ``progress.csv``, NaN where a cell is empty.

    A last line that is still being written, or was torn by a kill, is left out, and so are damaged ones.

    Raises:
        CheckpointError: There is no such file, it cannot be read, or it has no rows.
    """
    try:
        columns, rows, _ = _parse(read_bytes(path, LIMIT))
    except (OSError, Damaged) as error:
        if not is_gone(error):
            fix = "Make it readable." if may_be_whole(error) else "Name another run."
            raise CheckpointError(f"'{path}' cannot be read: {reason(error)}.", fix) from error
        columns, rows, what = [], [], "does not exist"
    else:
        what = "has no rows yet"
    if not rows:
        raise CheckpointError(
            f"'{path}' {what}.", "Name a run folder whose training has logged something, with the tracker csv."
        )
    return {column: [float(row[column] or math.nan) for row in rows] for column in columns}


def _parse(content: bytes) -> Table:
    """The columns and whole rows of a table, and the lines that are neither."""
    first, *lines = content.decode("utf-8-sig", errors="replace").split("\n")
    *whole, torn = map(_cells, lines or [""])  # a line without its end is not whole
    header, widths = _cells(first), Counter(len(line) for line in whole if _is_row(line))
    width = max(widths, key=widths.__getitem__, default=len(header))
    if width != len(header):
        header = first.split(",")  # where a quotation mark has come in
    columns, sound = [STEP, *header[1:]], header[0] == STEP and "\ufffd" not in first
    if len(set(columns)) < len(columns) or width != len(columns) or not (sound or len(columns) > 1):
        return Table([STEP], [], [header, *whole, torn])
    fits = [len(line) == len(columns) and _is_row(line) for line in whole]
    rows = [dict(zip(columns, line, strict=True)) for line, good in zip(whole, fits, strict=True) if good]
    lost = [line for line, good in zip(whole, fits, strict=True) if not good]
    return Table(columns, rows, [*([] if sound else [header]), *lost, torn])


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line.removesuffix("\r")])) or [""]
    except csv.Error:
        return [line]


def _is_row(line: list[str]) -> bool:
    try:
        return _is_number(line[0]) and len([float(cell or math.nan) for cell in line]) > 0
    except ValueError:
        return False


def _is_number(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and len(cell) < 19


def _line(row: Mapping[str, str], columns: Iterable[str]) -> bytes:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([row.get(column, "") for column in columns])
    return buffer.getvalue().encode()
