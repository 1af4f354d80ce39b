"""Environments so small that one can say what must be learned, each for one way of getting it wrong.

After Andy Jones, "Debugging RL, Without the Agonizing Pain", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import TensorEnv


@dataclass
class ProbeState:
    bit: Tensor  # (N,) 0 or 1, what there is to know
    steps: Tensor  # (N,) int64, since the start


class Probe(TensorEnv[ProbeState]):
    """Observes (bit, steps); subclasses say what a step does."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.observation_space = spaces.Box(0.0, 10.0, (2,))
        self.action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        bit = torch.randint(2, (n,), generator=rng, device=self.device)
        return ProbeState(bit, torch.zeros_like(bit))

    def observe(self, state: ProbeState) -> Tensor:
        return torch.stack((state.bit, state.steps), dim=-1).to(self.dtype)

    def later(self, state: ProbeState, bit: Tensor | None = None) -> ProbeState:
        return ProbeState(state.bit if bit is None else bit, state.steps + 1)

    def ends(self, state: ProbeState, ended: bool = True) -> Tensor:
        return torch.full_like(state.bit, ended, dtype=torch.bool)


class ConstantReward(Probe):
    """1 in every step, for ever; the time limit only looks away. V = 1 / (1 - gamma)."""

    max_episode_steps = 4

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        nothing = torch.zeros(n, dtype=torch.int64, device=self.device)
        return ProbeState(nothing, nothing)

    def observe(self, state: ProbeState) -> Tensor:
        return torch.zeros(len(state.bit), 2, device=self.device, dtype=self.dtype)  # one state alone

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state), torch.ones_like(state.bit), self.ends(state, False)


class Bandit(Probe):
    """One step; action 1 earns 1."""

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state), action, self.ends(state)


class DelayedReward(Probe):
    """Three steps; the last one earns 1 if the first action was 1. V(start) = gamma^2 then."""

    def reset(self, n: int, rng: torch.Generator | None) -> ProbeState:
        nothing = torch.zeros(n, dtype=torch.int64, device=self.device)
        return ProbeState(nothing, nothing)

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        after = self.later(state, torch.where(state.steps == 0, action, state.bit))
        ended = after.steps == 3
        return after, ended * after.bit, ended


class ObservationReward(Probe):
    """One step that earns what is seen: V = bit."""

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state), state.bit, self.ends(state)


class ActionReward(Probe):
    """One step that earns 1 if the action is what is seen, and costs 1 if it is not."""

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state), 2 * (action == state.bit) - 1, self.ends(state)


class Target(Probe):
    """One step; a real action earns most at 0.5 where the bit is 1 and at -0.5 where it is 0."""

    def __init__(self, **base: Any) -> None:
        super().__init__(**base)
        self.action_space = spaces.Box(-1.0, 1.0, (1,))

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state), -(action.squeeze(-1) - (state.bit - 0.5)).square(), self.ends(state)


class Autoreset(Probe):
    """Bit 0 leads to bit 1, which earns 1 for ever; but after each step the time is up and a bit is drawn.

    V(1) = 1 / (1 - gamma) and V(0) = gamma V(1): only true to whoever looks at where the step led, and not at
    the first observation of the episode after it.
    """

    max_episode_steps = 1

    def observe(self, state: ProbeState) -> Tensor:
        return torch.stack((state.bit, torch.zeros_like(state.bit)), dim=-1).to(self.dtype)

    def step(self, state: ProbeState, action: Tensor, rng: torch.Generator | None) -> Any:
        return self.later(state, torch.ones_like(state.bit)), state.bit, self.ends(state, False)
