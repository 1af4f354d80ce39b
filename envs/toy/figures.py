"""Figures on the boards of small games: people and flags."""

from rltrain.canvas import BLUE, GREEN, INK, PAPER, Canvas


def draw_person(canvas: Canvas, x: float, y: float, color: str = BLUE, *, size: float = 1.0) -> None:
    """A person around (x, y), 0.65 * ``size`` tall."""
    for grown, shade in ((0.035, PAPER), (0.0, color)):
        canvas.circle((x, y - 0.13 * size), (0.2 + grown) * size, shade)
        canvas.circle((x, y + 0.17 * size), (0.14 + grown) * size, shade)


def draw_flag(canvas: Canvas, x: float, y: float, color: str = GREEN) -> None:
    """A flag whose pole stands on (x, y), 0.64 tall."""
    canvas.line([(x, y), (x, y + 0.62)], INK, width=0.04)
    canvas.polygon([(x + 0.02, y + 0.63), (x + 0.37, y + 0.49), (x + 0.02, y + 0.35)], color)
