"""DiscountingChain: choose when to be paid; the best-paying chain may be the one that pays last."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, SILVER, SKY, YELLOW, Canvas
from rltrain.env import TensorEnv


@dataclass
class DiscountingChainState:
    """The chosen chain, and the progress along it."""

    chain: Tensor  # (N,) int64, 0 to 4; -1 before the choice
    steps: Tensor  # (N,) int64, steps since the start


class DiscountingChain(TensorEnv[DiscountingChainState]):
    """bsuite's discounting chain: an agent that discounts too much takes an early payment and misses the bonus.

    Observation: (N, 2): the chain that was chosen, from 0 to 4, -1 before that; the steps so far, by 100.
    Action: the chain, 0 to 4, in the first step; of no effect after it.
    Reward: 1 when the chain pays, which is after 1, 3, 10, 30 or 100 steps; ``bonus`` more on chain ``bonus_chain``.
    Episode end: after 100 steps.
    Source: Osband et al., "Behaviour Suite for Reinforcement Learning", 2020, arXiv:1908.03568, experiment
        discounting_chain; bsuite 0.3.6, ``environments/discounting_chain.py``.
    Baseline: the chain with the bonus. No policy can do better.

    With a discount factor gamma, a chain that pays after k steps is worth gamma^(k - 1), and 1.1 times that with the
    usual bonus: chain 4 is worth choosing only if gamma is above 1.1^(-1 / 99) = 0.99904. The best return is
    1 + ``bonus``; random choices earn 1 + ``bonus`` / 5.

    Args:
        bonus_chain: The chain that pays more; bsuite's ``mapping_seed`` modulo 5.
        bonus: How much more it pays.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``bonus_chain`` is not a chain, or ``bonus`` is below 0.
    """

    reward_threshold = 1.09  # nine of ten episodes take the bonus
    render_fps = 15

    pays_after: ClassVar[tuple[int, ...]] = (1, 3, 10, 30, 100)  # steps, by chain
    episode_length: ClassVar[int] = 100  # steps

    def __init__(self, *, bonus_chain: int = 4, bonus: float = 0.1, **base: Any) -> None:
        super().__init__(**base)
        chains = len(self.pays_after)
        self.bonus_chain = self.whole("bonus_chain", bonus_chain, at_least=0, at_most=chains - 1)
        self.bonus = self.constant("bonus", bonus, at_least=0)
        self.payday = torch.tensor(self.pays_after, device=self.device)
        self.observation_space = spaces.Box(
            np.array([-1.0, 0.0], dtype=np.float32), np.array([chains - 1, 1.0], dtype=np.float32), dtype=np.float32
        )
        self.action_space = spaces.Discrete(chains)

    def reset(self, n: int, rng: torch.Generator | None) -> DiscountingChainState:
        """Before the choice."""
        zero = torch.zeros(n, dtype=torch.int64, device=self.device)
        return DiscountingChainState(chain=zero - 1, steps=zero)

    def step(
        self, state: DiscountingChainState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[DiscountingChainState, Tensor, Tensor]:
        """One step along the chain, which the first action chooses."""
        chain = torch.where(state.steps == 0, action, state.chain)
        steps = state.steps + 1
        paid = steps == self.payday[chain]
        reward = paid * (1 + self.bonus * (chain == self.bonus_chain))
        return DiscountingChainState(chain, steps), reward, steps >= self.episode_length

    def observe(self, state: DiscountingChainState) -> Tensor:
        """Chain and time: (N, 2)."""
        time = state.steps.to(self.dtype) / self.episode_length
        return torch.stack((state.chain.to(self.dtype), time), dim=1)

    def info(self, state: DiscountingChainState) -> dict[str, Tensor]:
        """Whether the chain with the bonus was chosen."""
        return {"is_success": state.chain == self.bonus_chain}

    def baseline(self, state: DiscountingChainState) -> Tensor:
        """The chain with the bonus."""
        return torch.full_like(state.chain, self.bonus_chain)

    def render(self, state: DiscountingChainState, index: int = 0) -> Tensor:
        """The chains, with time on a logarithmic scale, and what they pay, (320, 600, 3) uint8."""
        chosen, steps = int(state.chain[index]), int(state.steps[index])
        chains = len(self.pays_after)
        canvas = Canvas(600, 320, world=(-1.2, -0.95, 8.8, 4.4))

        def along(step: float) -> float:
            return 7.5 * math.log1p(step) / math.log1p(self.episode_length)

        for chain, payday in enumerate(self.pays_after):
            y = float(chains - 1 - chain)
            here = chain == chosen
            canvas.text((-0.75, y), str(chain), BLUE if here else GREY, size=0.42)
            canvas.line([(0, y), (along(payday), y)], SKY if here else SILVER, width=0.1)
            if here:
                canvas.line([(0, y), (along(min(steps, payday)), y)], BLUE, width=0.1)
            paid = here and steps >= payday
            canvas.circle((along(payday), y), 0.3, GREEN if paid else ORANGE if chain == self.bonus_chain else GREY)
            canvas.circle((along(payday), y), 0.24, YELLOW if here or chosen < 0 else SILVER)
            pays = 1 + float(self.bonus) * (chain == self.bonus_chain)
            canvas.text((along(payday) + 0.45, y), f"{pays:g}", GREEN if paid else INK, size=0.36, anchor="lm")
            canvas.text((along(payday), -0.75), str(payday), GREY, size=0.3)
        canvas.text((-0.75, -0.75), "steps", GREY, size=0.3)
        y = chains - 1 - chosen if chosen >= 0 else (chains - 1) / 2
        canvas.circle((along(steps), y), 0.17, BLUE)
        canvas.circle((along(steps), y), 0.07, PAPER)
        return canvas.picture()
