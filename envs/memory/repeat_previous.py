"""RepeatPrevious: name the suit of the card that was dealt a few cards ago."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREY, INK, ORANGE, RED, SILVER, SKY, Canvas, Point
from rltrain.env import TensorEnv

SUITS = 4  # spades, diamonds, clubs, hearts


@dataclass
class RepeatPreviousState:
    """The cards last dealt, and those that can still come."""

    recent: Tensor  # (N, k) int8, the suits of the last k cards, the one in view last; 0 where there was none yet
    left: Tensor  # (N, 4) int16, cards of each suit that are left


class RepeatPrevious(TensorEnv[RepeatPreviousState]):
    """POPGym's repeat previous: cards are dealt one by one, and at every step an earlier one has to be named.

    Observation: the suit of the card in view: 0 spades, 1 diamonds, 2 clubs, 3 hearts.
    Action: the suit of the k-th last card, counting the one in view.
    Reward: once k cards have been dealt, 1 / (cards - k) for the right suit, minus as much for a wrong one: 1 in all
        if every suit is right.
    Episode end: the last card is in view, after 52 ``num_decks`` - 1 steps.
    Source: Morad et al., "POPGym: Benchmarking Partially Observable Reinforcement Learning", 2023, arXiv:2303.01859;
        popgym 1.0.7, ``envs/repeat_previous.py``.
    Baseline: perfect memory: the suit, read from the state. No policy can do better.

    POPGym's three levels are ``num_decks`` and ``k`` of 1 and 4 (easy, the default), 2 and 32 (medium), 3 and 64
    (hard). Random suits earn -0.5 on average. The best policy without memory, which names a suit other than the one in
    view because cards are dealt without replacement, earns 26/51 - 1 = -0.49 with one deck; perfect memory earns 1.

    Args:
        num_decks: Decks of 52 cards, shuffled together.
        k: How far back the card to name is: 1 for the card in view, 2 for the one before it.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``num_decks`` is not a whole number of at least 1, or ``k`` not one below the number of cards.
    """

    reward_threshold = 0.9  # 95 of 100 suits are right
    render_fps = 4

    per_suit: ClassVar[int] = 13  # cards, in a deck

    def __init__(self, *, num_decks: int = 1, k: int = 4, **base: Any) -> None:
        super().__init__(**base)
        self.num_decks = self.whole("num_decks", num_decks, at_least=1, at_most=1000)
        self.num_cards = SUITS * self.per_suit * self.num_decks
        self.k = self.whole("k", k, at_least=1, at_most=self.num_cards - 1)
        self.suits = torch.arange(SUITS, device=self.device)
        self.observation_space = spaces.Discrete(SUITS)
        self.action_space = spaces.Discrete(SUITS)

    def reset(self, n: int, rng: torch.Generator | None) -> RepeatPreviousState:
        """A full deck, and one card dealt from it."""
        recent = torch.zeros(n, self.k, dtype=torch.int8, device=self.device)
        left = torch.full((n, SUITS), self.per_suit * self.num_decks, dtype=torch.int16, device=self.device)
        return self._deal(recent, left, left.cumsum(1), rng)

    def step(
        self, state: RepeatPreviousState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[RepeatPreviousState, Tensor, Tensor]:
        """Looks at the answer, then deals."""
        sums = state.left.cumsum(1)
        undealt = sums[:, -1]
        scored = undealt <= self.num_cards - self.k
        right = (action == state.recent[:, 0]).to(self.dtype)
        reward = (2 * right - 1) * scored / (self.num_cards - self.k)
        return self._deal(state.recent, state.left, sums, rng), reward, undealt <= 1

    def _deal(self, recent: Tensor, left: Tensor, sums: Tensor, rng: torch.Generator | None) -> RepeatPreviousState:
        """The next card: as from a shuffled deck, each suit as likely as it has cards ``left``; ``sums``: added up."""
        place = torch.rand(len(left), 1, generator=rng, device=self.device, dtype=self.dtype) * sums[:, -1:]
        card = (place >= sums[:, :-1]).sum(1, keepdim=True)
        return RepeatPreviousState(
            recent=torch.cat((recent[:, 1:], card.to(torch.int8)), dim=1),
            left=left - (card == self.suits).to(torch.int16),
        )

    def observe(self, state: RepeatPreviousState) -> Tensor:
        """(N,) int64: the suit in view."""
        return state.recent[:, -1].to(torch.int64)

    def baseline(self, state: RepeatPreviousState) -> Tensor:
        """The suit to name, which the state knows."""
        return state.recent[:, 0].to(torch.int64)

    def render(self, state: RepeatPreviousState, index: int = 0) -> Tensor:
        """The last k cards, those out of view pale, the one to name in a frame, (300, 600, 3) uint8."""
        recent, undealt = state.recent[index].tolist(), int(state.left[index].sum())
        dealt = self.num_cards - undealt
        columns = min(self.k, 16)
        rows = -(-self.k // columns)
        world = (0.0, 0.0, max(columns, 4.0) + 0.6, 1.5 * rows + 1.1)
        canvas = Canvas(600, 300, world=world)
        for place, suit in enumerate(recent):
            row, column = divmod(place, columns)
            x = (world[2] - columns) / 2 + column + 0.5
            y = world[3] - 0.35 - 1.5 * row - 0.62
            in_view, named = place == self.k - 1, place == 0
            if named:
                canvas.rectangle(x - 0.47, y - 0.69, x + 0.47, y + 0.69, ORANGE, radius=0.14)
            elif in_view:
                canvas.rectangle(x - 0.45, y - 0.67, x + 0.45, y + 0.67, BLUE, radius=0.13)
            canvas.rectangle(x - 0.41, y - 0.62, x + 0.41, y + 0.62, SILVER, radius=0.1)
            if place < self.k - dealt:  # not dealt yet
                continue
            canvas.rectangle(x - 0.39, y - 0.6, x + 0.39, y + 0.6, "white", radius=0.09)
            color = (RED if suit in (1, 3) else INK) if in_view else ("#e3a39e" if suit in (1, 3) else "#a3abb8")
            DRAW[suit](canvas, (x, y), color)
        asked = "name the framed card" if dealt >= self.k else "look"
        canvas.text((0.3, 0.35), asked, ORANGE if dealt >= self.k else GREY, size=0.11 * world[2] ** 0.5, anchor="lm")
        canvas.text((world[2] - 0.3, 0.35), f"{undealt} left", GREY, size=0.11 * world[2] ** 0.5, anchor="rm")
        canvas.rectangle(0.3, 0.06, 0.3 + (world[2] - 0.6) * undealt / self.num_cards, 0.12, SKY)
        return canvas.picture()


def _spade(canvas: Canvas, at: Point, color: str) -> None:
    x, y = at
    canvas.circle((x - 0.11, y - 0.05), 0.12, color)
    canvas.circle((x + 0.11, y - 0.05), 0.12, color)
    canvas.polygon([(-0.22, 0.0), (0.22, 0.0), (0, 0.28)], color, at=at)
    canvas.polygon([(-0.09, -0.27), (0.09, -0.27), (0, 0.05)], color, at=at)


def _diamond(canvas: Canvas, at: Point, color: str) -> None:
    canvas.polygon([(0, 0.28), (0.2, 0), (0, -0.28), (-0.2, 0)], color, at=at)


def _club(canvas: Canvas, at: Point, color: str) -> None:
    x, y = at
    for dx, dy in ((-0.12, -0.05), (0.12, -0.05), (0, 0.14)):
        canvas.circle((x + dx, y + dy), 0.12, color)
    canvas.polygon([(-0.09, -0.27), (0.09, -0.27), (0, 0.1)], color, at=at)


def _heart(canvas: Canvas, at: Point, color: str) -> None:
    x, y = at
    canvas.circle((x - 0.11, y + 0.1), 0.125, color)
    canvas.circle((x + 0.11, y + 0.1), 0.125, color)
    canvas.polygon([(-0.22, 0.045), (0.22, 0.045), (0, -0.26)], color, at=at)


DRAW: tuple[Callable[[Canvas, Point, str], None], ...] = (_spade, _diamond, _club, _heart)
