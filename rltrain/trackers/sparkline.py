"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-=*#"


def sparkline(values: Sequence[float], width: int, *, blocks: str = BLOCKS) -> str:
    """The values as bars, from the lowest to the highest of them, one character for each of at most ``width`` parts.

    Args:
        values: The values in order of time; those that are not finite are left out.
        width: Characters at most.
        blocks: The bars from low to high.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known or width < 1:
        return ""
    size = min(width, len(known))
    edges = [round(i * len(known) / size) for i in range(size + 1)]
    parts = [sum(known[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(parts), max(parts)
    if high <= low:
        return blocks[len(blocks) // 2] * size
    top = len(blocks) - 1
    return "".join(blocks[round(top * (part - low) / (high - low))] for part in parts)
