"""Environments, and faults of learning, that give NaN, infinity or 1e38 at a place and a moment that is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain

ROW = 2
"""The environment that is broken."""


@dataclass
class Clock:
    time: Tensor  # (N,) steps of this environment since the start
    episode: Tensor  # (N,) steps of the episode
    row: Tensor  # (N,)


class BrokenNumbers(rltrain.TensorEnv[Clock]):
    """Episodes of ``length`` steps, cut off or terminated; one number in row 2 is bad in step ``at``.

    Args:
        where: observation, reward, final_obs, or start: an observation at the start of an episode.
        value: The bad number, as text.
        at: The step.
        length: Steps of an episode.
        terminates: Whether episodes end by themselves instead of being cut off.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Discrete(2)
    mended = False  # set to see whether a run can go on

    def __init__(
        self,
        where: str = "nowhere",
        value: str = "nan",
        at: int = 21,
        length: int = 7,
        terminates: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.where = "nowhere" if self.mended else where
        self.value, self.at, self.length, self.terminates = float(value), at, length, terminates
        self.count = 0

    def reset(self, n: int, rng: torch.Generator | None) -> Clock:
        zeros = torch.zeros(n, device=self.device)
        self.rows = torch.arange(n, device=self.device)
        return Clock(zeros + self.count, zeros, self.rows)

    def step(self, state: Clock, action: Tensor, rng: torch.Generator | None) -> tuple[Clock, Tensor, Tensor]:
        self.count += len(state.row) > 2  # two are stepped to look at what it gives, before it is used
        after = Clock(state.time + 1, state.episode + 1, state.row)
        bad = (state.row == ROW) & (self.where == "reward") & (self.count == self.at)
        reward = torch.where(bad, self.value, 1.0)
        return after, reward, (after.episode >= self.length) & self.terminates

    def observe(self, state: Clock) -> Tensor:
        obs = torch.stack([state.episode / 10, state.row / 10, state.time * 0], 1)
        due = (state.row == ROW) & (self.count == self.at)
        if self.where == "observation":
            due &= state.episode < self.length
        elif self.where == "final_obs":
            due &= state.episode >= self.length
        elif self.where == "start":
            due &= state.episode == 0
        else:
            due &= False
        return torch.where(due.unsqueeze(1), self.value, obs)


class BrokenContinuous(BrokenNumbers):
    """The same with actions between bounds."""

    action_space = spaces.Box(-1.0, 1.0, (1,))


class BrokenGym(gymnasium.Env[Any, Any]):
    """The same as an environment of Gymnasium; it counts its own steps; every one is broken."""

    mended = False

    def __init__(
        self,
        where: str = "nowhere",
        value: str = "nan",
        at: int = 21,
        length: int = 7,
        terminates: bool = False,
    ) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space: spaces.Space = spaces.Discrete(2)
        self.where = "nowhere" if self.mended else where
        self.value, self.at, self.length, self.terminates = float(value), at, length, terminates
        self.total = self.episode = 0

    def observe(self) -> np.ndarray:
        ends = self.episode >= self.length
        due = self.total == self.at and (
            (self.where == "observation" and not ends) or (self.where == "final_obs" and ends)
        )
        return np.array([self.value if due else self.episode / 10, 0.5, 0.0], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.total += 1
        self.episode += 1
        ends = self.episode >= self.length
        reward = self.value if self.where == "reward" and self.total == self.at else 1.0
        return self.observe(), reward, ends and self.terminates, ends and not self.terminates, {}


class BrokenContinuousGym(BrokenGym):
    """The same with actions between bounds."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Once(rltrain.Callback):
    """Breaks a number, once.

    Args:
        where: Which one; see the subclasses.
        value: The bad number.
        after: The environment step from which on it does so.
    """

    def __init__(self, where: str, value: float, after: int) -> None:
        self.where, self.value, self.after, self.done = where, value, after, False

    def is_due(self, trainer: Any) -> bool:
        """Whether to do so now; true only the first time."""
        due = not self.done and trainer.global_step >= self.after
        self.done = self.done or due
        return due


class Spoils(Once):
    """Breaks a number of what has learned after some update: ``parameters``, ``optimizer`` or ``normaliser``."""

    def on_update(self, trainer: Any, metrics: dict[str, Any]) -> None:
        if not self.is_due(trainer):
            return
        agent = trainer.agent
        with torch.no_grad():
            if self.where == "parameters":
                next(agent.actor.parameters()).view(-1)[0] = self.value
            elif self.where == "optimizer":
                optimizer_of(agent).state_dict()["exp_avg"][0] = self.value
            elif self.where == "normaliser":
                next(buffer for name, buffer in agent.named_buffers() if name.endswith("mean")).view(-1)[0] = self.value


class SpoilsLearning(Once):
    """Breaks the ``loss`` or the ``gradient`` of an update."""

    def on_rollout(self, trainer: Any) -> None:
        if not self.is_due(trainer):
            return
        agent, value = trainer.agent, self.value
        if self.where == "gradient":
            agent.reduce = lambda tensor: tensor * 0 + value
            return
        learn = agent.learn

        def broken() -> dict[str, Any]:
            metrics = learn()
            losses = [tag for tag in ("train/loss", "train/critic_loss") if tag in metrics]
            return {**metrics, **{tag: metrics[tag] * 0 + value for tag in losses}}

        agent.learn = broken


def optimizer_of(agent: Any) -> Any:
    """An optimizer of an agent."""
    return next(x for name, x in vars(agent).items() if name.endswith("optimizer"))
