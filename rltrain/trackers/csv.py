"""The metrics of a run as a table, ``progress.csv``."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path

from rltrain.errors import CheckpointError
from rltrain.tracker import RunInfo, Tracker

STEP = "time/total_timesteps"
"""The first column."""


class CsvTracker(Tracker):
    """Writes ``progress.csv``: a row per step, a column per metric, an empty cell where a metric was not logged.

    Calls of :meth:`log` with the same step share a row. When a call returns, the system has its data: a
    killed process loses nothing. A new metric rewrites the file with a longer header, in one atomic replacement.

    Args:
        run: The run. If it resumes, rows after the resumed step are dropped; a new run starts a new table.
    """

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        self._path = run.run_dir / "progress.csv"
        self._file = self._path.open("ab", buffering=0)
        columns, rows = _read(self._path) if run.resume_step is not None else ([STEP], [])
        self._columns = dict.fromkeys(columns)  # an ordered set
        self._row: dict[str, str] = {}  # the last row, whose first byte is at _row_start
        self._row_start = 0
        self._rewrite([row for row in rows if int(row[STEP]) <= (run.resume_step or 0)])

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds metrics to the row of their step."""
        cells = {tag: f"{float(value):.9g}" for tag, value in metrics.items() if tag != STEP}
        if self._row.get(STEP) != str(step):
            self._row = {STEP: str(step)}
            self._row_start = self._file.tell()
        self._row |= cells
        if cells.keys() <= self._columns.keys():
            self._file.seek(self._row_start)
            self._file.write(_line(self._row, self._columns))
            self._file.truncate()
        else:
            self._columns |= dict.fromkeys(cells)
            _, rows = _read(self._path)
            self._rewrite([*(row for row in rows if row[STEP] != str(step)), self._row])

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Adds the final metrics that were never logged to the last row."""
        unseen = {tag: value for tag, value in metrics.items() if tag not in self._columns}
        if self._row and unseen:
            self.log(unseen, int(self._row[STEP]))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Replaces the whole file, and opens it for writing after its last row."""
        lines = [_line(row, self._columns) for row in rows]
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.write_bytes(b"".join([_line({column: column for column in self._columns}, self._columns), *lines]))
        self._file.close()
        os.replace(temporary, self._path)
        self._file = self._path.open("r+b", buffering=0)
        end = self._file.seek(0, os.SEEK_END)
        self._row = rows[-1] if rows else {}
        self._row_start = end - len(lines[-1]) if rows else end


def read_progress(path: Path) -> dict[str, list[float]]:
    """The columns of a ``progress.csv``, NaN where a cell is empty.

    A last line that is still being written, or was torn by a kill, is left out.

    Raises:
        CheckpointError: There is no such file, or it has no rows.
    """
    columns, rows = _read(path)
    if not rows:
        what = "has no rows yet" if path.is_file() else "does not exist"
        raise CheckpointError(
            f"'{path}' {what}.", "Name a run folder whose training has logged something, with the tracker csv."
        )
    return {column: [float(row[column] or math.nan) for row in rows] for column in columns}


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The header and complete rows of the file; only the step column if the file is not such a table."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    header, *lines = csv.reader(text.split("\n")[:-1] or [STEP])  # a line without its end is not whole
    if header[:1] != [STEP]:
        return [STEP], []
    return header, [dict(zip(header, line, strict=True)) for line in lines if _is_whole(line, len(header))]


def _is_whole(line: list[str], width: int) -> bool:
    try:
        return len([float(cell or math.nan) for cell in line]) == width and line[0].isdigit()
    except ValueError:
        return False


def _line(row: Mapping[str, str], columns: Iterable[str]) -> bytes:
    buffer = StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([row.get(column, "") for column in columns])
    return buffer.getvalue().encode()
