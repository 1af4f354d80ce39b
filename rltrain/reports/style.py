"""Colours, dashes and markers that people tell apart with any kind of colour vision, and in print without colour."""

from __future__ import annotations

from typing import Any, NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9")
"""Those of Okabe and Ito (2008), "Color Universal Design", but for the yellow, which white paper swallows."""
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (3, 1)),
    (0, (9, 2, 1.5, 2, 1.5, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
INK, LINES, GRID = "#222222", "#9aa1a9", "#e4e7eb"


class Style(NamedTuple):
    """How a group of runs is drawn."""

    colour: str
    dash: Any  # as matplotlib's linestyle
    marker: str


def style_of(index: int) -> Style:
    """The style of the group with a number; no two of the first 42 have the same colour and the same dashes."""
    return Style(
        COLOURS[index % len(COLOURS)],
        DASHES[index % len(DASHES)],
        MARKERS[index % len(MARKERS)],
    )
