"""BitFlip: turn a row of bits into the one asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREY, INK, ORANGE, SILVER, Canvas
from rltrain.env import TensorEnv
from rltrain.vec import ACHIEVED, DESIRED


@dataclass
class BitFlipState:
    """The bits there are, and those that there should be."""

    bits: Tensor  # (N, B) bool
    goal: Tensor  # (N, B) bool, never the bits at the start


class BitFlip(TensorEnv[BitFlipState]):
    """The task that hindsight experience replay was introduced with: the reward is the same until all is done.

    Observation: a Dict of ``observation`` and ``achieved_goal``, the bits, and ``desired_goal``, those asked for, (B,)
        each, 0.0 or 1.0.
    Action: the bit to flip.
    Reward: 0 in the step that makes all bits right, -1 in every other.
    Episode end: all bits are right.
    Source: Andrychowicz et al., "Hindsight Experience Replay", 2017, arXiv:1707.01495, section 3.1, where an episode
        does not end with success.
    Baseline: flips the first wrong bit. No policy is faster.

    Random flips reach one of 2^B goals, so that without hindsight an agent with 20 bits never sees a reward but -1. The
    best return is one less than the wrong bits at the start, negative: -9 on average with 20 bits.

    Args:
        bits: How many there are. The time limit stays 20 steps unless ``max_episode_steps`` is given.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: ``bits`` is not a whole number from 1 to 1,000.
    """

    max_episode_steps = 20
    reward_threshold = -11.0
    render_fps = 4

    def __init__(self, *, bits: int = 20, **base: Any) -> None:
        super().__init__(**base)
        self.bits = self.whole("bits", bits, at_least=1, at_most=1000)
        self.places = torch.arange(self.bits, device=self.device)
        row = spaces.Box(0.0, 1.0, (self.bits,))
        self.observation_space = spaces.Dict({ACHIEVED: row, DESIRED: row, "observation": row})
        self.action_space = spaces.Discrete(self.bits)

    def reset(self, n: int, rng: torch.Generator | None) -> BitFlipState:
        """Random bits and random others."""
        chance = torch.rand(n, 2 * self.bits + 1, generator=rng, device=self.device, dtype=self.dtype)
        bits, goal = chance[:, : self.bits] < 0.5, chance[:, self.bits : -1] < 0.5
        same = (bits == goal).all(1, keepdim=True)
        return BitFlipState(bits=bits, goal=goal ^ (self._one((chance[:, -1] * self.bits).long()) & same))

    def step(
        self, state: BitFlipState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[BitFlipState, Tensor, Tensor]:
        """Flips a bit."""
        bits = state.bits ^ self._one(action)
        right = (bits == state.goal).all(1)
        return BitFlipState(bits=bits, goal=state.goal), right.to(self.dtype) - 1.0, right

    def _one(self, place: Tensor) -> Tensor:
        """Rows (N, B) that are true in one place (N,)."""
        return place.unsqueeze(1) == self.places

    def observe(self, state: BitFlipState) -> dict[str, Tensor]:
        """(N, B) each."""
        bits, goal = state.bits.to(self.dtype), state.goal.to(self.dtype)
        return {ACHIEVED: bits, DESIRED: goal, "observation": bits}

    def info(self, state: BitFlipState) -> dict[str, Tensor]:
        """Whether the bits are the ones asked for."""
        return {"is_success": (state.bits == state.goal).all(1)}

    def compute_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """The reward (M,) where M rows of bits were reached and others asked for, (M, B) each."""
        return self.compute_terminated(achieved, desired).to(self.dtype) - 1.0

    def compute_terminated(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Whether reaching them ends the episode, (M,) bool."""
        return (achieved == desired).all(1)

    def baseline(self, state: BitFlipState) -> Tensor:
        """The first wrong bit."""
        return (state.bits != state.goal).to(torch.uint8).argmax(1)

    def render(self, state: BitFlipState, index: int = 0) -> Tensor:
        """The bits above those asked for, the wrong ones framed, (240, 600, 3) uint8."""
        canvas = Canvas(600, 240, world=(0.0, 0.0, self.bits + 1.0, 0.4 * (self.bits + 1.0)))
        top = 0.4 * (self.bits + 1.0)
        size = 0.036 * (self.bits + 1.0)
        rows = ((state.bits[index].tolist(), 0.62 * top), (state.goal[index].tolist(), 0.26 * top))
        for words, (_, y) in zip(("bits", "goal"), rows, strict=True):
            canvas.text((0.5, y + 0.75), words, GREY, size=size, anchor="ld")
        for column, (bit, wanted) in enumerate(zip(rows[0][0], rows[1][0], strict=True)):
            if bit != wanted:
                canvas.rectangle(column + 0.52, rows[0][1] - 0.48, column + 1.48, rows[0][1] + 0.48, ORANGE, radius=0.1)
            for value, y in ((bit, rows[0][1]), (wanted, rows[1][1])):
                canvas.rectangle(
                    column + 0.58, y - 0.42, column + 1.42, y + 0.42, BLUE if value else SILVER, radius=0.08
                )
                canvas.text((column + 1.0, y), str(int(value)), "white" if value else INK, size=0.4, anchor="mm")
        return canvas.picture()
