"""A small environment with a mask, infos and a constant, and without a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import TensorEnv


@dataclass
class CountdownState:
    left: Tensor  # (N,) int64
    taken: Tensor  # (N,) int64, by the last action


class Countdown(TensorEnv[CountdownState]):
    """Take 1, 2 or 3 from a number until nothing is left; the reward is what was taken."""

    def __init__(self, *, start: int = 6, spread: int = 4, **base: Any) -> None:
        super().__init__(**base)
        self.start, self.spread = start, spread
        self.observation_space = spaces.Box(-3.0, start + spread, (2,))
        self.action_space = spaces.Discrete(3)

    def reset(self, n: int, rng: torch.Generator | None) -> CountdownState:
        left = torch.randint(self.start, self.start + self.spread + 1, (n,), device=self.device, generator=rng)
        return CountdownState(left, torch.zeros_like(left))

    def step(
        self, state: CountdownState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CountdownState, Tensor, Tensor]:
        after = CountdownState(state.left - action - 1, action + 1)
        return after, after.taken.to(self.dtype), after.left <= 0

    def observe(self, state: CountdownState) -> Tensor:
        return torch.stack((state.left, state.taken), dim=-1).to(self.dtype)

    def action_mask(self, state: CountdownState) -> Tensor:
        return state.left[:, None] > torch.arange(3, device=self.device)

    def info(self, state: CountdownState) -> dict[str, Tensor]:
        return {"is_success": state.left == 0, "left": state.left, "half": state.left / 2}
