"""Building blocks of the family's pictures: a board measured in pixels, bars, curves and labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rltrain.canvas import GREY, INK, PAPER, SILVER, Canvas

Frame: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""

WHITE = "#ffffff"


def board(width: int = 600, height: int = 400) -> Canvas:
    """An empty board whose units are pixels, from the lower left."""
    return Canvas(width, height, world=(0, 0, width, height), background=PAPER)


def panel(canvas: Canvas, frame: Frame, title: str, note: str = "") -> None:
    """A white card with a title on its upper left and a note on its upper right."""
    left, bottom, right, top = frame
    canvas.rectangle(left, bottom, right, top, SILVER, radius=8)
    canvas.rectangle(left + 1, bottom + 1, right - 1, top - 1, WHITE, radius=7)
    canvas.text((left + 12, top - 16), title, GREY, size=13, anchor="lm")
    if note:
        canvas.text((right - 12, top - 16), note, INK, size=14, anchor="rm")


def bar(canvas: Canvas, frame: Frame, share: float, color: str, *, upright: bool = False) -> None:
    """A bar filled to ``share`` of its frame, from the left or, if ``upright``, from below."""
    left, bottom, right, top = frame
    canvas.rectangle(left, bottom, right, top, SILVER, radius=3)
    share = min(max(share, 0.0), 1.0)
    if share > 0 and upright:
        canvas.rectangle(left, bottom, right, bottom + share * (top - bottom), color, radius=3)
    elif share > 0:
        canvas.rectangle(left, bottom, left + share * (right - left), top, color, radius=3)


def curve(
    canvas: Canvas, frame: Frame, values: Sequence[float], low: float, high: float, color: str, width: float = 2.0
) -> None:
    """Values, evenly spaced from left to right, in a frame whose bottom is ``low`` and whose top ``high``."""
    left, _, right, _ = frame
    points = [
        (left + (right - left) * i / max(len(values) - 1, 1), level(frame, value, low, high))
        for i, value in enumerate(values)
    ]
    canvas.line(points, color, width=width)


def level(frame: Frame, value: float, low: float, high: float) -> float:
    """The height of a value in a frame whose bottom is ``low`` and whose top ``high``, and never outside."""
    _, bottom, _, top = frame
    return bottom + (top - bottom) * min(max((value - low) / (high - low), 0.0), 1.0)
