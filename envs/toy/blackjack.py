"""Blackjack: draw cards to come closer to 21 than the dealer, but not beyond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import GREEN, GREY, INK, PAPER, RED, SKY, YELLOW, Canvas
from rltrain.devices import statistics_dtype
from rltrain.env import TensorEnv

DECK = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10)  # the value of each rank, 1 the ace
ENDS = (17, 18, 19, 20, 21, 21, 0)  # what the dealer ends with: the second 21 is a natural, 0 is bust
NATURAL = 5  # its place among them
FELT, LAWN, CHALK = "#2f5d50", "#386b5c", "#c8d8d0"


@dataclass
class BlackjackState:
    """The player's hand and what is known of the dealer's."""

    total: Tensor  # (N,) int64, points of the player's hand
    usable_ace: Tensor  # (N,) bool, whether one of them is an ace that counts as 11
    natural: Tensor  # (N,) bool, whether they are an ace and a ten alone
    showing: Tensor  # (N,) int64, value of the dealer's open card, 1 the ace
    dealer: Tensor  # (N,) int64, points that the dealer ends with, 0 if bust; -1 before his turn
    won: Tensor  # (N,) bool, whether the player has won


class Blackjack(TensorEnv[BlackjackState]):
    """Gymnasium's Blackjack-v1, with the same probabilities.

    Observation: (N, 3): the player's points, the dealer's open card (1 the ace), 1 where an ace counts as 11.
    Action: 1 draws a card, 0 sticks, and the dealer draws until he has 17 or more.
    Reward: 1 for winning, -1 for losing, 0 for a draw; 1.5 for winning with a natural if ``natural``.
    Episode end: the player sticks or has more than 21.
    Source: Sutton and Barto, "Reinforcement Learning: An Introduction", 2018, example 5.1; Gymnasium 1.4,
        ``envs/toy_text/blackjack.py``.
    Baseline: the basic strategy where one may only hit or stick, which is optimal: Sutton and Barto, figure 5.2.

    Every card comes from a full deck. As nothing is seen of the dealer's turn, what he ends with is drawn in one go,
    from its exact distribution given the open card.

    Args:
        natural: Whether winning with a natural, an ace and a ten from the start, pays 1.5; without ``sab`` alone.
        sab: Whether a natural wins against everything but a natural, as in the book.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: An argument is neither true nor false.
    """

    render_fps = 4

    def __init__(self, *, natural: bool = False, sab: bool = True, **base: Any) -> None:
        super().__init__(**base)
        self.natural = self.choice("natural", natural, (True, False))
        self.sab = self.choice("sab", sab, (True, False))
        chances = torch.tensor([dealer_chances(card) for card in range(1, 11)], dtype=torch.float64)
        chances[:, -1] = 1.0  # whatever is left
        steps = chances.cumsum(1).clamp(max=1.0) + torch.arange(1, 11).unsqueeze(1)
        dtype = statistics_dtype(self.device)
        self._ladder = (
            steps.flatten().to(dtype).to(self.device)
        )  # (10 * 7,) open card + chance of an end up to this one
        self._below_one = 1.0 if dtype == torch.float64 else 1 - 2**-19  # or a chance near 1 rounds to the next card
        self._ends = torch.tensor(ENDS * 10, device=self.device)  # (10 * 7,)
        self.observation_space = spaces.MultiDiscrete([32, 11, 2])
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> BlackjackState:
        """Two cards for the player, one for the dealer."""
        first, second, showing = self._draw((3, n), rng).unbind()
        ace = (first == 1) | (second == 1)
        total = torch.add(first + second, ace, alpha=10)
        nothing = torch.full_like(total, -1)
        return BlackjackState(total, ace, total == 21, showing, nothing, torch.zeros_like(ace))

    def _draw(self, shape: Sequence[int], rng: torch.Generator | None) -> Tensor:
        """Values of cards."""
        return torch.randint(1, 14, shape, generator=rng, device=self.device).clamp(max=10)

    def step(
        self, state: BlackjackState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[BlackjackState, Tensor, Tensor]:
        """A card for the player, or the dealer's turn; both are drawn, one of them counts."""
        hits = action == 1
        card = self._draw(hits.shape, rng) * hits
        hard = torch.add(state.total + card, state.usable_ace, alpha=-10)
        usable_ace = (state.usable_ace | (card == 1)) & (hard <= 11)
        total = torch.add(hard, usable_ace, alpha=10)
        bust = total > 21
        natural = state.natural & ~hits

        chance = torch.rand(hits.shape, generator=rng, device=self.device).to(self._ladder.dtype)
        place = torch.add(state.showing, chance, alpha=self._below_one)
        end = torch.searchsorted(self._ladder, place, right=True)
        dealer = self._ends[end]
        reward = (total - dealer).sign().to(self.dtype)
        if self.sab:
            reward = torch.where(natural & (end % len(ENDS) != NATURAL), 1.0, reward)
        elif self.natural:
            reward = torch.where(natural & (reward > 0), 1.5, reward)
        reward = torch.where(hits, -bust.to(self.dtype), reward)
        dealer = dealer.masked_fill(hits, -1)
        after = BlackjackState(total, usable_ace, natural, state.showing, dealer, reward > 0)
        return after, reward, bust | ~hits

    def observe(self, state: BlackjackState) -> Tensor:
        """The player's points, the dealer's open card and the usable ace: (N, 3)."""
        return torch.stack((state.total, state.showing, state.usable_ace.to(torch.int64)), dim=-1)

    def info(self, state: BlackjackState) -> dict[str, Tensor]:
        """Success is to have won."""
        return {"is_success": state.won}

    def baseline(self, state: BlackjackState) -> Tensor:
        """(N,): sticks on 17, on 12 or 13 already where the dealer is likely to bust; on 18 or 19 with an ace."""
        showing = state.showing
        weak = (showing >= 2) & (showing <= 6)
        enough = torch.where(weak, torch.where(showing >= 4, 12, 13), 17)
        enough_with_ace = torch.where((showing >= 9) | (showing == 1), 19, 18)
        return (state.total < torch.where(state.usable_ace, enough_with_ace, enough)).to(torch.int64)

    def render(self, state: BlackjackState, index: int = 0) -> Tensor:
        """The table: the dealer's cards above, the player's points below, (400, 500, 3) uint8."""
        total, showing, dealer = (int(field[index]) for field in (state.total, state.showing, state.dealer))
        canvas = Canvas(500, 400, world=(0, 0, 10, 8), background=FELT)
        canvas.rectangle(0, 0, 10, 3.9, LAWN)
        canvas.text((0.5, 7.5), "Dealer", CHALK, size=0.5, anchor="lm")
        canvas.text((0.5, 3.4), "Player", CHALK, size=0.5, anchor="lm")
        _draw_card(canvas, 3.2, 4.4, "A" if showing == 1 else str(showing))
        _draw_card(canvas, 5.6, 4.4, "")
        if dealer >= 0:
            canvas.circle((9.0, 5.9), 0.75, RED if dealer == 0 else PAPER)
            canvas.text((9.0, 5.9), str(dealer) if dealer else "bust", PAPER if dealer == 0 else INK, size=0.6)

        bust = total > 21
        canvas.text((5, 2.4), str(total), PAPER, size=1.6)
        if bool(state.usable_ace[index]):
            canvas.rectangle(6.3, 2.0, 9.2, 2.8, YELLOW, radius=0.2)
            canvas.text((7.75, 2.4), "ace as 11", INK, size=0.45)
        left, per_point = 0.8, 8.4 / 31
        canvas.rectangle(left, 0.6, left + 31 * per_point, 1.0, FELT, radius=0.1)
        canvas.rectangle(left, 0.6, left + total * per_point, 1.0, RED if bust else SKY, radius=0.1)
        limit = left + 21 * per_point
        canvas.line([(limit, 0.45), (limit, 1.15)], PAPER, width=0.06)
        canvas.text((limit, 0.25), "21", CHALK, size=0.35)
        if bust or dealer >= 0:
            drawn = total == dealer and not state.won[index]
            word, color = ("won", GREEN) if state.won[index] else ("draw", GREY) if drawn else ("lost", RED)
            canvas.rectangle(0.5, 2.0, 3.0, 2.8, color, radius=0.2)
            canvas.text((1.75, 2.4), word, PAPER, size=0.5)
        return canvas.picture()


def _draw_card(canvas: Canvas, left: float, bottom: float, face: str) -> None:
    """A card, its back where it has no face."""
    canvas.rectangle(left, bottom, left + 2, bottom + 2.9, PAPER, radius=0.2)
    if face:
        canvas.text((left + 1, bottom + 1.45), face, INK, size=1.5)
    else:
        canvas.rectangle(left + 0.15, bottom + 0.15, left + 1.85, bottom + 2.75, SKY, radius=0.12)


def dealer_chances(showing: int) -> list[float]:
    """How likely each of ``ENDS`` is for a dealer who shows the given card and has yet to turn the other."""

    @cache
    def further(hard: int, ace: bool) -> list[float]:
        """The same for a hand of ``hard`` points with its aces as 1, if he goes on as he must."""
        total = hard + 10 if ace and hard <= 11 else hard
        if total >= 17:
            end = ENDS.index(total if total <= 21 else 0)
            return [float(end == other) for other in range(len(ENDS))]
        ways = [further(hard + card, ace or card == 1) for card in DECK]
        return [sum(way) / len(DECK) for way in zip(*ways, strict=True)]

    natural = [float(other == NATURAL) for other in range(len(ENDS))]
    ways = [natural if {showing, card} == {1, 10} else further(showing + card, 1 in (showing, card)) for card in DECK]
    return [sum(way) / len(DECK) for way in zip(*ways, strict=True)]
