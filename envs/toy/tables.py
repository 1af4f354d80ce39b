"""The rules of a small game as tables on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

Outcome: TypeAlias = tuple[int, float, bool]
"""The next state, the reward, and whether the episode ends."""


class Tables:
    """A game of S states and A actions with one outcome each, or three where steps are slippery.

    Args:
        outcomes: The outcomes of an action in a state: one, or three on slippery ground, of which the middle one is the
            move in the chosen direction and the others are slips to either side.
        n_states: S.
        n_actions: A.
        starts: States in which episodes start, with equal probability.
        success_rate: 0-d, the probability of the middle outcome; the others share the rest. None where there is one.
        device: Device of the tables.
        dtype: Type of the rewards.
    """

    def __init__(
        self,
        outcomes: Callable[[int, int], Sequence[Outcome]],
        n_states: int,
        n_actions: int,
        starts: Sequence[int],
        *,
        success_rate: Tensor | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        rules = [[outcomes(state, action) for action in range(n_actions)] for state in range(n_states)]
        self.rules = torch.tensor(rules, dtype=torch.float64)  # (S, A, 1 or 3, 3) on the CPU, the last an Outcome
        next_state, reward, terminated = self.rules.flatten(0, 2).unbind(-1)
        self._next_state = next_state.to(torch.int64).to(device)  # (S * A * 1 or 3,)
        self._reward = reward.to(dtype).to(device)
        self._terminated = terminated.to(torch.bool).to(device)
        self._starts = torch.tensor(starts, dtype=torch.int64, device=device)
        self._success_rate = success_rate

    def start(self, n: int, rng: torch.Generator | None) -> Tensor:
        """``n`` start states (n,); nothing is drawn if there is only one."""
        if len(self._starts) == 1:
            return self._starts.repeat(n)
        return self._starts[torch.randint(len(self._starts), (n,), generator=rng, device=self._starts.device)]

    def follow(self, state: Tensor, action: Tensor, rng: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Next states, rewards and whether the episodes end (N,), for states and actions (N,)."""
        row = torch.add(action, state, alpha=self.rules.shape[1])
        if self._success_rate is not None:
            row = torch.add(slip(len(state), self._success_rate, rng), row, alpha=3)
        return self._next_state[row], self._reward[row], self._terminated[row]

    def probabilities(self) -> list[float]:
        """The probabilities of the outcomes."""
        if self._success_rate is None:
            return [1.0]
        aside = (1 - float(self._success_rate)) / 2
        return [aside, float(self._success_rate), aside]

    @cached_property
    def changes(self) -> Tensor:
        """Whether an action can lead to another state: (S, A) bool."""
        here = torch.arange(len(self.rules)).view(-1, 1, 1)
        return (self.rules[..., 0] != here).any(dim=-1).to(self._starts.device)

    @cached_property
    def best_actions(self) -> Tensor:
        """The actions (S,) that value iteration finds: Sutton and Barto, 2018, section 4.4.

        Later rewards are worth a little less, by 0.999 a step, so that of two ways to the goal the shorter is better.
        """
        next_state, reward, terminated = self.rules.unbind(-1)
        goes_on = 0.999 * (1 - terminated)
        probabilities = torch.tensor(self.probabilities(), dtype=torch.float64)
        values = torch.zeros(len(self.rules), dtype=torch.float64)
        while True:
            worth = (reward + goes_on * values[next_state.long()]) @ probabilities  # (S, A)
            best, actions = worth.max(dim=-1)
            if (best - values).abs().max() < 1e-9:
                return actions.to(self._starts.device)
            values = best


def slip(n: int, success_rate: Tensor, rng: torch.Generator | None) -> Tensor:
    """The outcomes (n,) of ``n`` steps on slippery ground: 1 for the chosen direction, 0 or 2 for either side."""
    chance = torch.rand(n, generator=rng, device=success_rate.device)
    aside = (1 - success_rate) / 2
    return (chance >= aside).to(torch.int64) + (chance >= 1 - aside)


def walk(cell: int, move: tuple[int, int], rows: int, columns: int) -> int:
    """The cell of a board, counted row by row, that a move of (rows, columns) leads to: an edge stops it."""
    row, column = divmod(cell, columns)
    return min(max(row + move[0], 0), rows - 1) * columns + min(max(column + move[1], 0), columns - 1)


def with_slips(action: int, is_slippery: bool) -> list[int]:
    """The directions that a step may take: to either side of its own on slippery ground, one of four in a circle."""
    return [(action - 1) % 4, action, (action + 1) % 4] if is_slippery else [action]
