"""Drawing of environments: a few shapes on a plane, without a display.

    canvas = Canvas(600, 400, world=(-2.4, -0.5, 2.4, 2.7))
    canvas.line([(-2.4, 0), (2.4, 0)], INK, width=2 * canvas.pixel)
    canvas.circle((x, 0.1), 0.05, BLUE)
    return canvas.picture()

One colour scheme for all tasks: the agent's body is ``BLUE``, what it swings or carries ``ORANGE``, a goal
``GREEN``, danger ``RED``; the fixed world is ``INK`` and greys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

Point: TypeAlias = tuple[float, float]
Pixels: TypeAlias = list[Point]
Ink: TypeAlias = tuple[int, ...] | int

PAPER = "#f6f7f9"
INK = "#2b303b"
GREY = "#a3abb8"
SILVER = "#dde1e7"
BLUE = "#2f6690"
SKY = "#81a4cd"
ORANGE = "#e07a3f"
YELLOW = "#e9b44c"
GREEN = "#4f9d69"
RED = "#c8463e"

_FINER = 3  # pixels drawn per pixel kept, in each direction: smooths the edges


class Canvas:
    """A picture in world coordinates, x to the right and y up.

    Positions, lengths, line widths and text sizes are all in world units; :attr:`pixel` is the length of one
    pixel. Angles are in radians, counter-clockwise from the x axis. A colour is ``"#rrggbb"``, ``"#rrggbbaa"``
    (see-through) or a name that Pillow knows. Later shapes cover earlier ones.

    Args:
        width: Width of the picture, in pixels.
        height: Height of the picture, in pixels.
        world: ``(left, bottom, right, top)``. It is shown whole, centred and in proportion, so a circle stays round.
        background: Colour behind everything.
    """

    def __init__(
        self, width: int, height: int, *, world: tuple[float, float, float, float], background: str = PAPER
    ) -> None:
        left, bottom, right, top = world
        scale = min(width / (right - left), height / (top - bottom))
        self.pixel = 1.0 / scale
        self._left, self._top = left, top
        self._scale = scale * _FINER
        self._origin = (
            width * _FINER / 2 - self._scale * (left + right) / 2,
            height * _FINER / 2 + self._scale * (bottom + top) / 2,
        )
        self._image = Image.new("RGB", (width * _FINER, height * _FINER), background)

    def polygon(self, points: Iterable[Point], color: str, *, at: Point = (0.0, 0.0), angle: float = 0.0) -> None:
        """A filled polygon, turned by ``angle`` about its own origin and then moved to ``at``."""
        cos, sin = math.cos(angle), math.sin(angle)
        moved = [(at[0] + cos * x - sin * y, at[1] + sin * x + cos * y) for x, y in points]
        path = self._pixels(moved)
        self._paint(color, lambda draw, ink: draw.polygon(path, ink))

    def rectangle(self, left: float, bottom: float, right: float, top: float, color: str, *, radius: float = 0) -> None:
        """An upright rectangle, its corners rounded by ``radius``. For a turned one, draw a polygon."""
        (x0, y0), (x1, y1) = self._pixels([(left, top), (right, bottom)])
        self._paint(color, lambda draw, ink: draw.rounded_rectangle((x0, y0, x1, y1), radius * self._scale, ink))

    def tile(self, row: float, column: float, color: str, *, inset: float = 0.0, radius: float = 0.0) -> None:
        """The unit square of a board: row 0 at the top of the world, column 0 at its left; ``inset`` on all sides."""
        x, y = self.tile_center(row, column)
        half = 0.5 - inset
        self.rectangle(x - half, y - half, x + half, y + half, color, radius=radius)

    def tile_center(self, row: float, column: float) -> Point:
        """The middle of a :meth:`tile`."""
        return self._left + column + 0.5, self._top - row - 0.5

    def circle(self, center: Point, radius: float, color: str) -> None:
        """A disc. For a ring, draw an :meth:`arc` or a smaller disc on top."""
        ((x, y),) = self._pixels([center])
        r = radius * self._scale
        self._paint(color, lambda draw, ink: draw.ellipse((x - r, y - r, x + r, y + r), ink))

    def line(self, points: Iterable[Point], color: str, *, width: float) -> None:
        """Straight lines from point to point, with round ends and joints."""
        path = self._pixels(points)
        self._paint(color, lambda draw, ink: self._stroke(draw, ink, path, width * self._scale / 2))

    def arc(
        self, center: Point, radius: float, start: float, end: float, color: str, *, width: float, head: float = 0.0
    ) -> None:
        """Part of a circle from angle ``start`` to ``end``; with ``head`` above 0 an arrow with a tip that long."""
        steps = max(2, math.ceil(abs(end - start) * 24))
        angles = [start + (end - start) * i / steps for i in range(steps + 1)]
        turn = min(abs(end - start), head / radius)  # the shaft ends where the tip begins
        stop = end - math.copysign(turn, end - start)
        shaft = [a for a in angles if abs(a - start) < abs(stop - start)] + [stop]
        points = [(center[0] + radius * math.cos(a), center[1] + radius * math.sin(a)) for a in (*shaft, end)]
        self._arrow(points, color, width, head)

    def arrow(self, start: Point, end: Point, color: str, *, width: float, head: float) -> None:
        """A straight arrow whose tip is ``head`` long."""
        length = math.dist(start, end)
        if length > 0:
            share = max(0.0, 1 - head / length)
            neck = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            self._arrow([start, neck, end], color, width, head)

    def text(self, position: Point, text: str, color: str = INK, *, size: float, anchor: str = "mm") -> None:
        """One line of text. ``anchor`` is Pillow's: ``lmr`` across and ``amsd`` down, ``"mm"`` for the middle."""
        ((x, y),) = self._pixels([position])
        font = _font(size * self._scale)
        self._paint(color, lambda draw, ink: draw.text((x, y), text, ink, font, anchor))

    def picture(self) -> Tensor:
        """The picture so far, (height, width, 3) uint8 on the CPU."""
        return torch.from_numpy(np.array(self._image.reduce(_FINER)))

    def _pixels(self, points: Iterable[Point]) -> Pixels:
        left, top = self._origin
        return [(left + self._scale * x, top - self._scale * y) for x, y in points]

    def _arrow(self, points: list[Point], color: str, width: float, head: float) -> None:
        """A path that ends in a tip, drawn as one shape so that a see-through arrow has one even colour."""
        path = self._pixels(points)
        half = width * self._scale / 2
        (x0, y0), (x1, y1) = path[-2:]
        wing = 0.45  # half the tip's breadth, by its length
        tip = [(x1, y1), (x0 - wing * (y1 - y0), y0 + wing * (x1 - x0)), (x0 + wing * (y1 - y0), y0 - wing * (x1 - x0))]

        def draw_both(draw: ImageDraw.ImageDraw, ink: Ink) -> None:
            self._stroke(draw, ink, path[:-1] if head else path, half)
            if head:
                draw.polygon(tip, ink)

        self._paint(color, draw_both)

    @staticmethod
    def _stroke(draw: ImageDraw.ImageDraw, ink: Ink, path: Pixels, half: float) -> None:
        """A thick path of quadrilaterals with a disc at each point; ``half`` is half its width in fine pixels."""
        for (x0, y0), (x1, y1) in pairwise(path):
            length = math.hypot(x1 - x0, y1 - y0) or 1.0
            dx, dy = -(y1 - y0) * half / length, (x1 - x0) * half / length
            draw.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], ink)
        for x, y in path:
            draw.ellipse((x - half, y - half, x + half, y + half), ink)

    def _paint(self, color: str, shape: Callable[[ImageDraw.ImageDraw, Ink], None]) -> None:
        """Draws a shape. A see-through one goes through a mask, so that overlapping parts do not add up."""
        *solid, alpha = ImageColor.getcolor(color, "RGBA")  # type: ignore[misc]
        if alpha == 255:
            shape(ImageDraw.Draw(self._image), tuple(solid))
        else:
            mask = Image.new("L", self._image.size)
            shape(ImageDraw.Draw(mask), alpha)
            self._image.paste(tuple(solid), mask=mask)


@lru_cache(maxsize=16)
def _font(size: float) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
