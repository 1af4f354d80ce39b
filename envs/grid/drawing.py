"""Pictures of MiniGrid's worlds from above."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, PAPER, RED, SKY, YELLOW, Canvas, Point
from rltrain.envs.grid.things import PORTABLE, Kind

COLOURS = (RED, GREEN, SKY, "#8a5fb0", YELLOW, GREY)  # in MiniGrid's order: red, green, blue, purple, yellow, grey
SEEN, UNSEEN, LINES = "#ffffff", "#d3d8df", "#c3c9d2"
TRIANGLE = [(0.4, 0.0), (-0.32, 0.33), (-0.2, 0.0), (-0.32, -0.33)]


def draw_world(
    codes: Sequence[int], *, width: int, height: int, place: int, direction: int, seen: Collection[int]
) -> Tensor:
    """The world with its agent.

    Args:
        codes: Codes of the cells, row by row, and last that of what the agent carries.
        width: Width in cells.
        height: Height in cells.
        place: The agent's cell.
        direction: Where it looks: 0 right, 1 down, 2 left, 3 up.
        seen: The cells that it sees.

    Returns:
        (H, W, 3) uint8, the longer side about 500 pixels.
    """
    scale = max(16, 500 // max(width, height))
    canvas = Canvas(scale * width, scale * height, world=(0, 0, width, height), background=LINES)
    for cell, code in enumerate(codes[: width * height]):
        row, column = divmod(cell, width)
        if code >> 3 != Kind.WALL:
            canvas.tile(row, column, SEEN if cell in seen else UNSEEN, inset=0.02)
        _draw_thing(canvas, code, row, column, lit=cell in seen)

    row, column = divmod(place, width)
    x, y = canvas.tile_center(row, column)
    angle = -direction * math.pi / 2
    canvas.polygon(TRIANGLE, BLUE, at=(x, y), angle=angle)
    _draw_carried(canvas, codes[-1], (x, y))
    return canvas.picture()


def _draw_thing(canvas: Canvas, code: int, row: int, column: int, *, lit: bool) -> None:
    kind, color = code >> 3, COLOURS[code & 7]
    center = canvas.tile_center(row, column)
    if kind == Kind.WALL:
        canvas.tile(row, column, "#4a5160" if lit else INK)
    elif kind == Kind.GOAL:
        canvas.tile(row, column, color, inset=0.06, radius=0.1)
    elif kind == Kind.LAVA:
        _draw_lava(canvas, row, column)
    elif kind in (Kind.OPEN_DOOR, Kind.CLOSED_DOOR, Kind.LOCKED_DOOR):
        _draw_door(canvas, kind, color, row, column, lit=lit)
    elif kind in PORTABLE:
        _draw_object(canvas, kind, color, center, 1.0)


def _draw_object(canvas: Canvas, kind: int, color: str, center: Point, size: float) -> None:
    x, y = center
    if kind == Kind.KEY:
        canvas.circle((x, y + 0.2 * size), 0.17 * size, color)
        canvas.circle((x, y + 0.2 * size), 0.07 * size, SEEN)
        canvas.line([(x, y + 0.05 * size), (x, y - 0.32 * size)], color, width=0.11 * size)
        for tooth in (-0.16, -0.29):
            canvas.line([(x, y + tooth * size), (x + 0.13 * size, y + tooth * size)], color, width=0.08 * size)
    elif kind == Kind.BALL:
        canvas.circle(center, 0.3 * size, color)
        canvas.circle((x - 0.1 * size, y + 0.1 * size), 0.07 * size, "#ffffffaa")
    else:  # box
        half = 0.3 * size
        canvas.rectangle(x - half, y - half, x + half, y + half, color, radius=0.05 * size)
        canvas.rectangle(x - half, y - 0.04 * size, x + half, y + 0.04 * size, PAPER)


def _draw_door(canvas: Canvas, kind: int, color: str, row: int, column: int, *, lit: bool) -> None:
    x, y = canvas.tile_center(row, column)
    canvas.tile(row, column, color)
    if kind == Kind.OPEN_DOOR:  # only its frame is there
        canvas.tile(row, column, SEEN if lit else UNSEEN, inset=0.12)
    elif kind == Kind.CLOSED_DOOR:
        canvas.tile(row, column, PAPER, inset=0.1)
        canvas.tile(row, column, color, inset=0.17)
        canvas.circle((x + 0.2, y), 0.07, PAPER)
    else:
        canvas.circle((x, y + 0.07), 0.12, INK)
        canvas.polygon([(-0.05, 0.0), (0.05, 0.0), (0.1, -0.28), (-0.1, -0.28)], INK, at=(x, y + 0.05))


def _draw_lava(canvas: Canvas, row: int, column: int) -> None:
    canvas.tile(row, column, RED)
    x, y = canvas.tile_center(row, column)
    for level in (0.2, -0.02, -0.24):
        wave = [(x - 0.42 + 0.84 * i / 12, y + level + 0.06 * math.sin(i * math.pi / 3)) for i in range(13)]
        canvas.line(wave, YELLOW, width=0.06)


def _draw_carried(canvas: Canvas, code: int, center: Point) -> None:
    if code >> 3 in PORTABLE:
        x, y = center
        canvas.circle((x - 0.24, y + 0.24), 0.27, INK)
        canvas.circle((x - 0.24, y + 0.24), 0.24, SEEN)
        _draw_object(canvas, code >> 3, COLOURS[code & 7], (x - 0.24, y + 0.24), 0.55)
