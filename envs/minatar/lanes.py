"""Boards of eight lanes with one thing in each, as in Asterix and Freeway: looked up, not put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rltrain.envs.minatar.game import SIZE

LANES = 8  # rows 1 to 8


def draw_lanes(channels: Sequence[str], kinds: Mapping[int, tuple[str, str]], *, wraps: bool) -> Tensor:
    """What is seen of a lane, for every kind of thing in every column.

    Args:
        channels: Names of the channels, C of them.
        kinds: For the kinds 1 to K of things: the channel of the thing, and that of the cell behind it, its trail. The
            kind is negative where the thing goes to the left, and 0 where there is none.
        wraps: Whether what is behind one end of a lane is its other end; otherwise there is nothing.

    Returns:
        (10 (2 K + 1), 10 C) bool, by 10 (kind + K) + column.
    """
    count = len(kinds)
    pictures = torch.zeros(2 * count + 1, SIZE, SIZE, len(channels), dtype=torch.bool)
    for kind, (thing, trail) in kinds.items():
        for direction in (-1, 1):
            for x in range(SIZE):
                picture, behind = pictures[count + direction * kind, x], x - direction
                picture[x, channels.index(thing)] = True
                if wraps or 0 <= behind < SIZE:
                    picture[behind % SIZE, channels.index(trail)] = True
    return pictures.view(-1, SIZE * len(channels))


def light_lanes(pictures: Tensor, kind: Tensor, x: Tensor, place: Tensor) -> Tensor:
    """Boards of lanes with one cell lit besides.

    Args:
        pictures: Those of :func:`draw_lanes`.
        kind: (N, 8) int8, what is in each lane.
        x: (N, 8) int8, its column.
        place: (N,) the cell, see :meth:`~rltrain.envs.minatar.game.MinAtarGame.place`.

    Returns:
        (N, 10, 10, C) bool.
    """
    codes = nn.functional.pad(SIZE * kind + x, (1, 1))  # (N, 10): nothing at the top and the bottom
    rows = pictures.index_select(0, codes.view(-1).int() + len(pictures) // (2 * SIZE) * SIZE)
    on = torch.ones((), dtype=torch.bool, device=place.device).expand(len(place), 1)
    return rows.view(len(place), -1).scatter_(1, place.unsqueeze(1), on).view(len(place), SIZE, SIZE, -1)
