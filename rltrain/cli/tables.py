"""Tables and entries for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rltrain.cli.output import terminal_width
from rltrain.errors import plain

WIDTH = 110
"""Columns where nobody says how wide the terminal is."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Rows below a head, as wide as needed; the columns in ``right`` are flush right.

    The last column is left whole, so that what is in it can be copied.
    """
    cells = [list(head), *([" ".join(plain(cell).split()) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        words = [
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def entries(pairs: Sequence[tuple[str, str]], indent: int = 14) -> str:
    """Names with texts beside them, wrapped at the width of the terminal."""
    width = max((terminal_width() or WIDTH) - indent, 40)
    lines = []
    for name, text in pairs:
        first, *rest = textwrap.wrap(plain(text), width, break_long_words=False, break_on_hyphens=False) or [""]
        lines += [f"{plain(name):<{indent - 1}} {first}".rstrip(), *(f"{'':<{indent}}{line}" for line in rest)]
    return "\n".join(lines)


def clock(seconds: float | None) -> str:
    """A time such as 4.2s, 12m08s or 3h20m."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def count(number: int | None) -> str:
    """A number with commas; empty for None."""
    return "" if number is None else f"{number:,}"


def size(number: int) -> str:
    """A number of bytes such as 1.4 MB."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} bytes"
