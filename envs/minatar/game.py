"""The base of the five MinAtar games: sticky actions, the board of ten by ten cells, and its picture.

All five follow the rules of Young and Tian, "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible
Reinforcement Learning Experiments", 2019, arXiv:1903.03176, and where the paper is silent the observed behaviour of
the authors' package ``minatar`` 1.0.15. That package is under the GPL and is a dependency of the tests only, which
compare every step with it. The code here was written from scratch, for batches and without branches, and contains none
of it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import INK, Canvas
from rltrain.env import TensorEnv
from rltrain.tree import view_as_bools, view_bools

S = TypeVar("S")
C = TypeVar("C")

SIZE = 10  # cells along each side of the board
NOOP, LEFT, UP, RIGHT, DOWN, FIRE = range(6)  # MinAtar's action codes
BOARD = "#1f2430"
GRID = "#2b3240"


def words(cells: Tensor) -> Tensor:
    """Cells (K, 4 W) bool as (K, W) int32, four in a word.

    Boards are put together from words, because CPU code of ``torch.compile`` handles bytes and bools one by one.
    """
    return view_bools(cells, torch.int32)


class Look(NamedTuple):
    """How the active cells of a channel are drawn: a tile of one colour, rounded, and smaller than its cell."""

    color: str
    inset: float = 0.06  # cells, on all sides
    radius: float = 0.12  # cells, of the corners; with 0.5 - inset a disc
    label: str = ""  # beside it in the legend, instead of the channel's name


class MinAtarGame(TensorEnv[S], Generic[S, C]):
    """A game on ten by ten cells, with randomness separate from the rules.

    ``C`` is a named tuple of tensors (N, ...) with everything random in one step, drawn by :meth:`draw` and used by the
    pure function :meth:`advance`. It includes ``repeat`` (N,) bool, see :meth:`stick`. The state has a field
    ``last_action`` (N,) int64, one of the six codes, ``NOOP`` at the start of an episode.

    Attributes:
        channels: The last axis of the observation, in order: name and look. Later ones are drawn on top.
        moves: Codes of the actions that make a difference in this game, ascending.

    Args:
        sticky_action_prob: Probability that the action played before is played again, whatever was chosen.
        minimal_actions: Whether the action set is ``moves``, as in MinAtar's -v1 ids; all six codes otherwise.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``sticky_action_prob`` is outside [0, 1], or ``minimal_actions`` neither true nor false.
    """

    max_episode_steps = 5_000
    render_fps = 15
    reset_interval = 5  # no episode is shorter

    channels: ClassVar[dict[str, Look]]
    moves: ClassVar[tuple[int, ...]]

    def __init__(self, *, sticky_action_prob: float = 0.1, minimal_actions: bool = True, **base: Any) -> None:
        super().__init__(**base)
        self.sticky_action_prob = self.constant("sticky_action_prob", sticky_action_prob, at_least=0, at_most=1)
        codes = self.moves if self.choice("minimal_actions", minimal_actions, (True, False)) else range(6)
        self._codes = torch.tensor(codes, device=self.device)
        self._columns = torch.tensor([0, -1, 0, 1, 0, 0], device=self.device)  # (6,) what a code moves the player by
        self._rows = torch.tensor([0, 0, -1, 0, 1, 0], device=self.device)
        self.action_space = spaces.Discrete(len(codes))
        self.observation_space = spaces.Box(0, 1, (SIZE, SIZE, len(self.channels)), dtype=np.bool_)

    @abstractmethod
    def draw(self, n: int, rng: torch.Generator | None) -> C:
        """Everything random in one step of ``n`` games."""

    @abstractmethod
    def advance(self, state: S, action: Tensor, chance: C) -> tuple[S, Tensor, Tensor]:
        """The rules, without randomness; arguments and results as in :meth:`step`."""

    def step(self, state: S, action: Tensor, rng: torch.Generator | None) -> tuple[S, Tensor, Tensor]:
        """One frame of every game."""
        return self.advance(state, action, self.draw(len(action), rng))

    def draw_repeat(self, n: int, rng: torch.Generator | None) -> Tensor:
        """Where the last action sticks: (N,) bool."""
        return torch.rand(n, generator=rng, device=self.device, dtype=self.dtype) < self.sticky_action_prob

    def stick(self, last_action: Tensor, action: Tensor, repeat: Tensor) -> Tensor:
        """The code (N,) that is played: that of ``action``, or the last one played where ``repeat``."""
        return torch.where(repeat, last_action, self._codes.index_select(0, action))

    def column_step(self, code: Tensor) -> Tensor:
        """1 to the right, -1 to the left, 0 for the other actions: (N,) int64."""
        return self._columns.index_select(0, code)

    def row_step(self, code: Tensor) -> Tensor:
        """1 down, -1 up, 0 for the other actions: (N,) int64."""
        return self._rows.index_select(0, code)

    def full(self, n: int, value: int) -> Tensor:
        """``value``, (n,) int64."""
        return torch.full((n,), value, dtype=torch.int64, device=self.device)

    def place(self, row: Tensor | int, column: Tensor, channel: str) -> Tensor:
        """Where a cell of a channel is in a board laid out flat; the shape is ``column``'s."""
        return (row * SIZE + column) * len(self.channels) + list(self.channels).index(channel)

    def board(self, words: Tensor) -> Tensor:
        """Boards (N, 10, 10, C) bool from their :func:`words`, (N, 25 C) in any shape."""
        return view_as_bools(words).view(-1, SIZE, SIZE, len(self.channels))

    def render(self, state: S, index: int = 0) -> Tensor:
        """The board, and what its colours mean, (400, 560, 3) uint8."""
        cells = self.observe(state)[index].to("cpu").numpy()  # type: ignore[index]
        canvas = Canvas(560, 400, world=(-0.4, -0.4, 14.7, 10.4))
        canvas.rectangle(-0.12, -0.12, SIZE + 0.12, SIZE + 0.12, BOARD, radius=0.15)
        for k in range(1, SIZE):
            canvas.rectangle(0, k - 0.015, SIZE, k + 0.015, GRID)
            canvas.rectangle(k - 0.015, 0, k + 0.015, SIZE, GRID)
        for channel, (name, look) in enumerate(self.channels.items()):
            for row, column in np.argwhere(cells[:, :, channel]).tolist():
                self._draw_cell(canvas, column + 0.5, SIZE - row - 0.5, look)
            y = SIZE - 0.6 - 0.8 * channel
            canvas.rectangle(10.45, y - 0.33, 11.11, y + 0.33, BOARD, radius=0.1)
            self._draw_cell(canvas, 10.78, y, look, 0.56)
            canvas.text((11.32, y), look.label or name, INK, size=0.46, anchor="lm")
        return canvas.picture()

    @staticmethod
    def _draw_cell(canvas: Canvas, x: float, y: float, look: Look, size: float = 1.0) -> None:
        half = size * (0.5 - look.inset)
        canvas.rectangle(x - half, y - half, x + half, y + half, look.color, radius=size * look.radius)
