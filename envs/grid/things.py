"""Objects and colours of MiniGrid's worlds, with MiniGrid's numbers."""

from __future__ import annotations

from enum import IntEnum


class Kind(IntEnum):
    """Kinds of cells. A cell's code is ``8 * kind + colour``; kinds that hide the cells behind them come last."""

    UNSEEN = 0
    EMPTY = 1
    KEY = 2
    BALL = 3
    BOX = 4
    GOAL = 5
    LAVA = 6
    OPEN_DOOR = 7
    WALL = 8
    CLOSED_DOOR = 9
    LOCKED_DOOR = 10


class Colour(IntEnum):
    """MiniGrid's colours in MiniGrid's order."""

    RED = 0
    GREEN = 1
    BLUE = 2
    PURPLE = 3
    YELLOW = 4
    GREY = 5


EMPTY = 8 * Kind.EMPTY
WALL = 8 * Kind.WALL + Colour.GREY
GOAL = 8 * Kind.GOAL + Colour.GREEN
LAVA = 8 * Kind.LAVA + Colour.RED

PORTABLE = (Kind.KEY, Kind.BALL, Kind.BOX)
MINIGRID_TYPE_AND_STATE = {
    Kind.UNSEEN: (0, 0),
    Kind.EMPTY: (1, 0),
    Kind.KEY: (5, 0),
    Kind.BALL: (6, 0),
    Kind.BOX: (7, 0),
    Kind.GOAL: (8, 0),
    Kind.LAVA: (9, 0),
    Kind.OPEN_DOOR: (4, 0),
    Kind.WALL: (2, 0),
    Kind.CLOSED_DOOR: (4, 1),
    Kind.LOCKED_DOOR: (4, 2),
}
