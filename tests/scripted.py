"""An agent whose policy is told beforehand, and an environment that pays what it says: every return is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor, nn

import rltrain
from rltrain.agent import Actor, ActOut, Agent, Metrics
from rltrain.config import AgentConfig
from rltrain.env import TensorEnv
from rltrain.vec import VecStep

ANY_NUMBER = spaces.Box(-np.inf, np.inf, (1,))


@dataclass
class PayState:
    start: Tensor  # (N,) drawn at the start of the episode, in [0, 1)
    said: Tensor  # (N,) the last action; 0 at the start


class Pay(TensorEnv[PayState]):
    """Episodes of two steps. A step pays what the action says, and half of ``luck`` times a number that the seed draws.

    A picture is as red as the last action says, and as green as that number.
    """

    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = ANY_NUMBER
    max_episode_steps = 2

    def __init__(self, *, luck: float = 0.0, **base: Any) -> None:
        super().__init__(**base)
        self.luck = luck

    def reset(self, n: int, rng: torch.Generator | None) -> PayState:
        start = torch.rand(n, generator=rng)
        return PayState(start, torch.zeros_like(start))

    def step(self, state: PayState, action: Tensor, rng: torch.Generator | None) -> tuple[PayState, Tensor, Tensor]:
        after = PayState(state.start, action.squeeze(1))
        return after, after.said + 0.5 * self.luck * state.start, torch.zeros(len(action), dtype=torch.bool)

    def observe(self, state: PayState) -> Tensor:
        return state.start.unsqueeze(1)

    def render(self, state: PayState, index: int = 0) -> Tensor:
        picture = torch.zeros(16, 16, 3, dtype=torch.uint8)
        picture[..., 0] = state.said[index].clamp(0, 255).to(torch.uint8)
        picture[..., 1] = (255 * state.start[index]).to(torch.uint8)
        return picture


class Turning(Pay):
    """Pays what the action says where ``sign`` is 1, and takes it where it is -1."""

    def __init__(self, *, sign: float = 1.0, luck: float = 0.0, **base: Any) -> None:
        super().__init__(luck=luck, **base)
        self.sign = sign

    def step(self, state: PayState, action: Tensor, rng: torch.Generator | None) -> tuple[PayState, Tensor, Tensor]:
        after, paid, ended = super().step(state, action, rng)
        return after, self.sign * paid, ended


class ScriptedActor(Actor):
    """Says its level; a sample is ``spread`` around it."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.spread = spread

    def choose(self, obs: Any, state: Any, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        said = self.level.expand(len(obs), 1)
        return ActOut(said if deterministic else said + self.spread * torch.randn(said.shape, generator=rng))


class ScriptedConfig(AgentConfig):
    """Hyperparameters."""

    n_steps: int = 2
    """Steps of each environment between two updates."""
    plan: list[float] = Field(default=[0.0])
    """The level after the first update, after the second, and so on; the last one stays."""
    spread: float = 0.0
    """Deviation of samples."""


class Scripted(Agent):
    """It starts at level 0."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: ScriptedConfig,
        **options: Any,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        self.horizon = config.n_steps
        self.actor = ScriptedActor(config.spread)
        self.n_updates = 0

    def act(self, obs: Any, state: Any = None) -> ActOut:
        return self.actor(obs, state)

    def record(self, out: ActOut, step: VecStep) -> None:
        pass

    def learn(self) -> Metrics:
        plan = self.config.plan
        self.actor.level.fill_(plan[min(self.n_updates, len(plan) - 1)])
        self.n_updates += 1
        return {"train/loss": self.actor.level.clone()}

    def training_state(self) -> dict[str, Any]:
        return {"n_updates": self.n_updates}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self.n_updates = state["n_updates"]


def register() -> None:
    """Makes both known."""
    rltrain.register_agent("scripted", Scripted, ScriptedConfig)
    rltrain.register_env("test/Pay-v0", Pay)
