"""Several vector environments of one kind, stepped as one, each with its own generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from rltrain.rng import generator_state
from rltrain.tree import tree_cat, tree_map
from rltrain.vec import TensorVecEnv

S = TypeVar("S")


class JoinedVecEnv(TensorVecEnv[S], Generic[S]):
    """K vector environments of N rows as one of K * N rows, continuing from their current states.

    Each draws from its own generator the numbers that it would draw alone. If the environment's step draws any, which
    the first step shows, the parts are stepped one after another.

    Args:
        parts: Vector environments of the same kind and size, all reset, and stepped equally often since.
    """

    def __init__(self, parts: Sequence[TensorVecEnv[S]]) -> None:
        first, n = parts[0], parts[0].num_envs
        super().__init__(first.env, len(parts) * n, max_episode_steps=first.max_episode_steps)
        self.parts = parts
        self.rows = [slice(k * n, (k + 1) * n) for k in range(len(parts))]  # of each part
        self._state = tree_cat([part.state for part in parts])
        self._return = torch.cat([part._return for part in parts])
        self._length = torch.cat([part._length for part in parts])
        self._checked = True
        self._by_chance: bool | None = None  # whether a step draws
        self._keep(tree_cat([part._starts for part in parts]), first._age)

    def split(self) -> None:
        """Brings the parts to the states they would be in if each had been stepped alone."""
        for part, rows in zip(self.parts, self.rows, strict=True):
            part._state = tree_map(lambda x, rows=rows: x[rows], self.state)
            part._return, part._length = self._return[rows], self._length[rows]
            part._keep(tree_map(lambda x, rows=rows: x[rows], self._starts), self._age)

    def _next(self, before: S, action: Tensor) -> tuple[S, Tensor, Tensor]:
        if self._by_chance is False:
            return super()._next(before, action)
        generators = [generator_state(part._rng) for part in self.parts]
        outcomes = [
            part.env.step(tree_map(lambda x, rows=rows: x[rows], before), action[rows], part._rng)
            for part, rows in zip(self.parts, self.rows, strict=True)
        ]
        if self._by_chance is None:
            pairs = zip(generators, self.parts, strict=True)
            self._by_chance = any(not torch.equal(state, generator_state(part._rng)) for state, part in pairs)
        state, reward, terminated = zip(*outcomes, strict=True)
        return tree_cat(state), torch.cat(reward), torch.cat(terminated)

    def _draw_starts(self) -> None:
        self._keep(tree_cat([part.env.reset(part.num_envs, part._rng) for part in self.parts]), age=0)
