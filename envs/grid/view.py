"""The view of an agent in a MiniGrid world: the 7 x 7 cells ahead, without those behind walls and closed doors."""

from __future__ import annotations

import torch
from torch import Tensor

from rltrain.envs.grid.things import MINIGRID_TYPE_AND_STATE, Colour

SIZE = 7  # cells across, and deep

_ONES = 0x0101010101010101  # one in each byte of a word
_AGENT = 1 << SIZE // 2  # the agent's cell in its row of seven bits


class View:
    """The views of N agents, in MiniGrid's numbers.

    A column of the view is seven cells of one byte, the farthest first, and an empty byte: one word of 64 bits. So
    the visible cells of a column are found all at once.

    Args:
        width: Width of the world in cells.
        height: Height of the world in cells.
        through_walls: Whether nothing hides what is behind it.
        device: Device of every tensor.
    """

    def __init__(self, width: int, height: int, *, through_walls: bool, device: torch.device) -> None:
        self._through_walls = through_walls
        self.sources = _sources(width, height).to(device)
        self._across, self._beyond = (table.to(device) for table in _light_tables())
        self._pictured = _pictured_pairs().to(device)
        column = torch.arange(SIZE, device=device)
        self._column = column
        self._opaque_to_column = SIZE - 1 - column  # from bit 6 of a code, which walls and closed doors have set
        self._in_column = _ONES << column
        self._row = (8 * column).flip(0).unsqueeze(1)  # (7, 1): where a row's byte begins, the agent's row first

    def image(self, cells: Tensor, position: Tensor, direction: Tensor) -> Tensor:
        """MiniGrid's view.

        Args:
            cells: (N, C) uint8, the codes of the world's cells, row by row, and last what the agent carries.
            position: (N,) the agents' cells.
            direction: (N,) where they look: 0 right, 1 down, 2 left, 3 up.

        Returns:
            (N, 7, 7, 3) uint8: column from the left, row from the far end, and type, colour and state.
        """
        source = self.sources.index_select(0, torch.add(direction, position, alpha=4))
        words = cells.gather(1, source).view(torch.int64)  # (N, 7)
        if not self._through_walls:
            words = words & self._seen(words)
        pairs = words.view(torch.int16).view(-1).to(torch.int32)  # two cells are looked up at once
        columns = self._pictured.index_select(0, pairs).view(-1, 8 * 3)
        return columns.narrow_copy(1, 0, SIZE * 3).view(-1, SIZE, SIZE, 3)

    def _seen(self, words: Tensor) -> Tensor:
        """(N, 7): 255 in the byte of each cell that is seen.

        Light goes from the agent's row to the farthest. In a row it spreads to both sides through what is not
        opaque, and from there to the next row, ahead and diagonally. A row is opaque in up to seven cells and lit
        from behind in up to seven: a table over these 14 bits holds what becomes of it.
        """
        opaque = ((words >> self._opaque_to_column) & self._in_column).sum(1)  # (N,): a byte per row, a bit per column
        rows = ((opaque << SIZE) >> self._row) & (127 << SIZE)  # (7, N)
        cases = [rows[0] | _AGENT]
        for row in rows[1:]:
            cases.append(row | self._beyond.index_select(0, cases[-1]))
        lit = self._across.index_select(0, torch.cat(cases)).view(SIZE, -1)
        seen = (lit << self._row).sum(0)  # (N,): a byte per row again
        return ((seen.unsqueeze(1) >> self._column) & _ONES) * 255


def _sources(width: int, height: int) -> Tensor:
    """(4 * cells, 56): which cell each byte of the view shows, for each position and direction of the agent.

    What lies outside the world is shown as the wall at its edge; the agent's own cell, as what it carries.
    """
    place = torch.arange(height * width).view(-1, 1, 1, 1)
    x, y = place % width, place // width
    dx, dy = torch.tensor([[1, 0, -1, 0], [0, 1, 0, -1]]).view(2, 1, 4, 1, 1)
    right = torch.arange(SIZE).view(-1, 1) - SIZE // 2
    ahead = SIZE - 1 - torch.arange(8)  # the last byte is of no row
    seen_x = (x + dx * ahead - dy * right).clamp(0, width - 1)
    seen_y = (y + dy * ahead + dx * right).clamp(0, height - 1)
    sources = seen_y * width + seen_x
    sources[..., SIZE] = sources[..., SIZE // 2, SIZE - 1] = width * height
    return sources.view(4 * width * height, 8 * SIZE)


def _light_tables() -> tuple[Tensor, Tensor]:
    """Which cells of a row are seen, and which of the next one: by the 7 bits lit from behind and 7 opaque ones.

    As MiniGrid's ``Grid.process_vis`` goes through a row: first to the right, then to the left.
    """
    case = torch.arange(1 << 2 * SIZE)
    lit = [(case >> i) & 1 for i in range(SIZE)]
    clear = [1 - ((case >> SIZE + i) & 1) for i in range(SIZE)]
    next_lit = [torch.zeros_like(case) for _ in range(SIZE)]
    for side, columns in ((1, range(SIZE - 1)), (-1, range(SIZE - 1, 0, -1))):
        for i in columns:
            shines = lit[i] & clear[i]
            lit[i + side] = lit[i + side] | shines
            next_lit[i] = next_lit[i] | shines
            next_lit[i + side] = next_lit[i + side] | shines
    across, beyond = (sum(bit << i for i, bit in enumerate(bits)) for bits in (lit, next_lit))
    assert isinstance(across, Tensor)
    assert isinstance(beyond, Tensor)
    return across, beyond


def _pictured_pairs() -> Tensor:
    """(2^15, 6) uint8: type, colour and state of two cells, by their two codes as one number."""
    single = torch.zeros(128, 3, dtype=torch.uint8)
    for kind, (type_, state) in MINIGRID_TYPE_AND_STATE.items():
        for colour in Colour:
            single[8 * kind + colour] = torch.tensor([type_, colour, state])
    first, second = single.expand(128, -1, -1), single.unsqueeze(1).expand(-1, 128, -1)
    table = torch.zeros(128, 256, 6, dtype=torch.uint8)  # the first cell's byte is the lower one
    table[:, :128] = torch.cat((first, second), dim=-1)
    return table.view(-1, 6)
