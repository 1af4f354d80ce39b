"""Spaces of every kind, which what stands between environments and agents is tried with."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space] = {
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "number": spaces.Box(-1.0, 1.0, ()),
    "image": spaces.Box(0, 255, (6, 5, 3), np.uint8),
    "wide": spaces.Box(0, 60_000, (2, 2), np.uint16),
    "signed": spaces.Box(-300, 7, (2,), np.int16),
    "shifted": spaces.Discrete(7, start=-3),
    "multi": spaces.MultiDiscrete([[3, 4], [5, 6]], start=[[1, 0], [-2, 0]]),
    "binary": spaces.MultiBinary((2, 2)),
    "tuple": spaces.Tuple((spaces.Discrete(5, start=2), spaces.Box(-1.0, 1.0, (2,)))),
}
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3),
    "shifted": spaces.Discrete(4, start=-2),
    "box": spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64),
    "free": spaces.Box(-np.inf, np.inf, (1, 2)),
    "number": spaces.Box(-1.0, 1.0, ()),
    "bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "multi": spaces.MultiDiscrete([[2, 3], [4, 5]], start=[[0, 1], [-2, 0]]),
    "binary": spaces.MultiBinary((2, 2)),
}
