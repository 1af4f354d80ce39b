"""User callbacks, called at fixed points of training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from rltrain.agent import Agent
from rltrain.config import TrainConfig
from rltrain.tracker import Tracker
from rltrain.vec import VecEnv


@dataclass(frozen=True)
class Episodes:
    """Episodes that finished, K of them, in the order in which they ended.

    Attributes:
        returns: (K,) float32 sum of rewards.
        lengths: (K,) int64 steps.
        successes: (K,) float32, 1 for a success, 0 for a failure, NaN where the environment does not report it.
        rows: (K,) int64, which of the N environments each was played in.
    """

    returns: Tensor
    lengths: Tensor
    successes: Tensor
    rows: Tensor


class Folder(Protocol):
    """A run's folder on disk."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of its checkpoints."""
        ...

    @property
    def videos(self) -> Path:
        """Folder of its videos."""
        ...


class Training(Protocol):
    """A training run, as callbacks see it.

    Attributes:
        config: Its configuration.
        agent: The agent that learns.
        env: The environments it trains in.
        folder: Its folder; ``folder.path`` is the directory.
        global_step: Environment steps so far, over all environments and ranks.
        latest: The last value of every metric, by TensorBoard tag.
        seconds: In the training loop until the last update, over all sessions.
        trackers: All trackers as one, for pictures, texts and numbers of the callback's own.
    """

    config: TrainConfig
    agent: Agent
    env: VecEnv
    global_step: int
    latest: dict[str, float]
    seconds: float

    @property
    def trackers(self) -> Tracker:
        """All trackers as one."""
        ...

    @property
    def folder(self) -> Folder:
        """Its folder."""
        ...

    def stop(self) -> None:
        """Ends the run after the current update."""

    def save_soon(self) -> None:
        """Writes a checkpoint after the current update; on one rank is enough."""

    def keep_as_best(self, value: float) -> None:
        """Saves the policy as the best if ``value`` is larger than every one before; all ranks call it together."""

    def due(self, freq: int) -> bool:
        """Whether the last iteration passed a multiple of ``freq`` environment steps."""
        ...

    def evaluate_with(self, name: str, episodes: int, **options: Any) -> dict[str, float]:
        """Plays episodes in new environments, as in training but for ``options``; all ranks call it together.

        Args:
            name: The metrics are ``eval_NAME/mean_reward`` and so on.
            episodes: The number of episodes, the same ones each time.
            **options: Constructor arguments of the environment, and options of it.

        Returns:
            The metrics by tag; none if it failed, of which a warning tells.
        """
        ...


class Callback:
    """Base class of callbacks: override the methods you need. Ready-made ones are in :mod:`rltrain.training.callbacks`.

    Each method receives the run as a :class:`Training`. Random numbers that a callback draws from the process's global
    generators do not change training; changes to the agent or the environments do.
    """

    def on_setup(self, config: TrainConfig) -> None:
        """Before a run starts or goes on; raise :class:`~rltrain.errors.ConfigError` if it cannot work there."""

    def state_dict(self, trainer: Training) -> dict[str, Any]:
        """What a checkpoint is to hold of it for this run: numbers, text and tensors, nested by names."""
        return {}

    def load_state_dict(self, trainer: Training, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state_dict` gave, in a resumed run with this class at the same place of the list."""

    def on_rollout(self, trainer: Training) -> None:
        """After ``agent.horizon`` steps of every environment, before the agent learns from them."""

    def on_update(self, trainer: Training, metrics: dict[str, Tensor | float]) -> None:
        """After the agent has learned; tensors among ``metrics`` are 0-d, and reading one waits for the device."""

    def on_episodes(self, trainer: Training, episodes: Episodes) -> None:
        """At a log point, with the episodes that finished since the last one, on the device; there may be none."""

    def on_log(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """At a log point, with its metrics by tag, on the host."""

    def on_evaluation(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """After an evaluation during training, by ``--eval-freq`` or a callback, with its metrics by tag."""

    def on_checkpoint(self, trainer: Training, path: Path) -> None:
        """After a checkpoint was written to ``path``, a directory; with a replay, some updates after it was begun."""
