"""MemoryChain: see a few bits, wait, and then say what one of them was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, GREY, INK, ORANGE, PAPER, RED, SILVER, YELLOW, Canvas
from rltrain.env import TensorEnv


@dataclass
class MemoryChainState:
    """The bits shown, the question, and the progress along the chain."""

    context: Tensor  # (N, B) -1 or 1, the bits to remember
    query: Tensor  # (N,) int64, from 0 to B - 1: the bit that will be asked for
    steps: Tensor  # (N,) int64, steps since the start
    correct: Tensor  # (N,) bool, whether the last step was the answer, and right


class MemoryChain(TensorEnv[MemoryChainState]):
    """bsuite's memory chain: the answer at the end needs the first observation.

    Observation: (N, 2 + B): the time left, from 1 down to 0; the number of the bit that is asked for, in the
        observation before the answer, otherwise 0; the B bits as -1 and 1, in the first two observations, otherwise 0.
    Action: the value of the bit that was asked for, 0 or 1; of no effect before the last step.
    Reward: in the last step 1 for the right answer, -1 for a wrong one; otherwise 0.
    Episode end: after ``memory_length`` + 1 steps.
    Source: Osband et al., "Behaviour Suite for Reinforcement Learning", 2020, arXiv:1908.03568, experiments
        memory_len and memory_size; bsuite 0.3.6, ``environments/memory_chain.py``.
    Baseline: perfect memory: the answer, read from the state. No policy can do better.

    As in bsuite, the observation lags a step behind: the first two are alike, and ``memory_length`` - 2 of them, in
    which there is nothing to see but the time, lie between the bits and the question. Random answers earn 0 on
    average, and so does every policy without memory (once ``memory_length`` is above 1); perfect memory earns 1.

    Args:
        memory_length: How long to remember, in steps; with 1 the question comes together with the bits.
        num_bits: How much to remember: B.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``memory_length`` or ``num_bits`` is not a whole number of at least 1.
    """

    reward_threshold = 0.9  # 95 of 100 answers are right
    render_fps = 5

    def __init__(self, *, memory_length: int = 10, num_bits: int = 1, **base: Any) -> None:
        super().__init__(**base)
        self.memory_length = self.whole("memory_length", memory_length, at_least=1)
        self.num_bits = self.whole("num_bits", num_bits, at_least=1)
        low = np.array([0.0, 0.0, *[-1.0] * num_bits], dtype=np.float32)
        high = np.array([1.0, max(num_bits - 1, 1), *[1.0] * num_bits], dtype=np.float32)
        self.observation_space = spaces.Box(low, high, dtype=np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> MemoryChainState:
        """Bits and question at random."""
        bits = torch.randint(2, (n, self.num_bits), generator=rng, device=self.device)
        query = torch.randint(self.num_bits, (n,), generator=rng, device=self.device)
        return MemoryChainState(
            context=2 * bits.to(self.dtype) - 1,
            query=query,
            steps=torch.zeros_like(query),
            correct=torch.zeros(n, dtype=torch.bool, device=self.device),
        )

    def step(
        self, state: MemoryChainState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[MemoryChainState, Tensor, Tensor]:
        """A step along the chain; the last one is the answer."""
        steps = state.steps + 1
        ended = steps > self.memory_length
        right = action == self.baseline(state)
        reward = ended * (2 * right.to(self.dtype) - 1)
        return MemoryChainState(state.context, state.query, steps, right & ended), reward, ended

    def observe(self, state: MemoryChainState) -> Tensor:
        """Time left, question and bits: (N, 2 + B)."""
        time = self._time(state)
        left = 1 - time.to(self.dtype) / self.memory_length
        query = state.query * (time == self.memory_length - 1)
        context = state.context * (time == 0).unsqueeze(1)
        return torch.cat((torch.stack((left, query), dim=1), context), dim=1)

    def info(self, state: MemoryChainState) -> dict[str, Tensor]:
        """Whether the answer was right."""
        return {"is_success": state.correct}

    def baseline(self, state: MemoryChainState) -> Tensor:
        """The answer, which the state knows."""
        return (state.context.gather(1, state.query.unsqueeze(1)).squeeze(1) > 0).to(torch.int64)

    def _time(self, state: MemoryChainState) -> Tensor:
        """(N,) int64: the time that is observed, a step behind."""
        return (state.steps - 1).clamp(0, self.memory_length)

    def render(self, state: MemoryChainState, index: int = 0) -> Tensor:
        """The bits, pale while they have to be remembered, above the way to the question, (280, 600, 3) uint8."""
        bits, query = state.context[index].tolist(), int(state.query[index])
        time, length = int(self._time(state)[index]), self.memory_length
        asks, over = time == length - 1, int(state.steps[index]) > length
        right = bool(state.correct[index])
        canvas = Canvas(600, 280, world=(-5, -2.3, 5, 2.37))

        room = min(2.2, 9.0 / len(bits))  # for each bit
        for number, bit in enumerate(bits):
            center, size = ((number - (len(bits) - 1) / 2) * room, 0.75), 0.4 * room
            frame = BLUE if time == 0 else SILVER
            if number == query and (asks or over):
                frame = ORANGE if asks else GREEN if right else RED
            disc, digit = (YELLOW, INK) if bit > 0 else (INK, PAPER)
            if time > 0 and not over:  # out of sight for the agent
                disc, digit = PAPER, GREY
            canvas.circle(center, 1.16 * size, frame)
            canvas.circle(center, size, disc)
            canvas.text(center, str(int(bit > 0)), digit, size=1.1 * size)
        message = ("right" if right else "wrong") if over else "which was it?" if asks else "remember" * (time == 0)
        canvas.text((0, -0.72), message, size=0.42)

        def along(step: float) -> float:
            return -4.4 + 8.8 * step / length

        canvas.line([(along(0), -1.55), (along(length), -1.55)], SILVER, width=0.1)
        canvas.line([(along(0), -1.55), (along(time), -1.55)], GREY, width=0.1)
        if length <= 50:
            for step in range(length + 1):
                canvas.circle((along(step), -1.55), min(0.11, 2.4 / length), GREY if step <= time else SILVER)
        canvas.circle((along(length - 1), -1.55), 0.15, ORANGE)
        canvas.circle((along(time), -1.55), 0.22, BLUE)
        return canvas.picture()
