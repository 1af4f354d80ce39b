"""Lookup tables for boards of eight lanes with one object in each, as in Asterix and Freeway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from rltrain.envs.minatar.game import SIZE, words

LANES = 8  # rows 1 to 8


class Lanes:
    """Pictures of every possible row.

    Args:
        channels: Names of the channels, C of them, the player's first.
        kinds: For the kinds 1 to K of things: the channel of the thing, and that of the cell behind it, its trail. The
            kind is negative where the thing goes to the left, and 0 where there is none.
        player: Columns that the player can be in.
        wraps: Whether what is behind one end of a lane is its other end; otherwise there is nothing.
        device: Device of the pictures.
    """

    def __init__(
        self,
        channels: Sequence[str],
        kinds: Mapping[int, tuple[str, str]],
        *,
        player: Sequence[int],
        wraps: bool,
        device: torch.device,
    ) -> None:
        self.kinds, ways = len(kinds), 2 * len(kinds) + 1
        self.pictures_each = SIZE * ways  # without the player, and with the player in each column
        pictures = torch.zeros(len(player) + 1, ways, SIZE, SIZE, len(channels), dtype=torch.bool)
        for kind, (thing, trail) in kinds.items():
            for direction in (-1, 1):
                for x in range(SIZE):
                    picture, behind = pictures[:, len(kinds) + direction * kind, x], x - direction
                    picture[:, x, channels.index(thing)] = True
                    if wraps or 0 <= behind < SIZE:
                        picture[:, behind % SIZE, channels.index(trail)] = True
        for k, column in enumerate(player):
            pictures[k + 1, :, :, column, 0] = True
        rows = pictures.view(-1, SIZE * len(channels))
        # As many rows at once as fill whole words, each with a table of its own in which the others are dark.
        self.tables = []
        together = 1 if rows.shape[1] % 4 == 0 else 2
        for k in range(together):
            table = torch.zeros(len(rows), together, rows.shape[1], dtype=torch.bool)
            table[:, k] = rows
            self.tables.append(words(table.flatten(1)).to(device))

    def light(self, kind: Tensor, x: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Boards in words, (N * 10 / S, 5 C S / 2) int32 for S rows at once.

        Args:
            kind: (N, 8) int8, what is in each lane.
            x: (N, 8) int8, its column.
            row: (N,) int64, the player's.
            column: (N,) which of its columns it is in.
        """
        codes = nn.functional.pad(SIZE * kind + x, (1, 1)).int() + SIZE * self.kinds  # (N, 10): no lane, nothing
        player = (column.int() + 1) * self.pictures_each
        codes = codes.scatter_add_(1, row.unsqueeze(1), player.unsqueeze(1))
        parts = (
            table.index_select(0, codes[:, k :: len(self.tables)].reshape(-1)) for k, table in enumerate(self.tables)
        )
        board = next(parts)
        for part in parts:
            board |= part
        return board
