"""Looking on while an agent trains: code of the user's own, called at fixed moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.rng import global_kept

if TYPE_CHECKING:
    from rltrain.trainer import Trainer


@dataclass(frozen=True)
class Episodes:
    """Episodes that finished, K of them, in the order in which they ended.

    Attributes:
        returns: (K,) float32 sum of rewards.
        lengths: (K,) int64 steps.
        successes: (K,) float32, 1 for a success and 0 for none; NaN where the environment does not say.
        rows: (K,) int64, which of the N environments each was played in.
    """

    returns: Tensor
    lengths: Tensor
    successes: Tensor
    rows: Tensor


class Callback:
    """Called while an agent trains; a subclass writes the methods that it wants.

    Each gets the trainer, which knows ``global_step``, ``agent``, ``env``, ``config``, ``folder`` and ``latest``, the
    last value of every metric; ``trainer.stop()`` ends the run after this update. Whatever a callback draws from the
    generators of the process is not missed by training. What it changes in agent or environment is, and is meant to be.
    """

    def on_rollout(self, trainer: Trainer) -> None:
        """After ``agent.horizon`` steps of every environment, before the agent learns from them."""

    def on_update(self, trainer: Trainer, metrics: dict[str, Tensor | float]) -> None:
        """After the agent has learned; tensors among ``metrics`` are 0-d, and reading one waits for the device."""

    def on_episodes(self, trainer: Trainer, episodes: Episodes) -> None:
        """At a log point, with the episodes that finished since the last; on the device, and there may be none."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint was written to ``path``, a directory."""


class Callbacks:
    """All callbacks of a run as one, which does nothing where there are none.

    Raises:
        ConfigError: One of them is no :class:`Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                fix = "Subclass rltrain.Callback, and give an instance."
                raise ConfigError(f"{callback!r} is no callback.", fix)
        self._all = list(callbacks)
        self.want_episodes = any(type(each).on_episodes is not Callback.on_episodes for each in self._all)
        self._noted: list[tuple[Tensor, Tensor]] = []  # since the last log point: (T, N) bool, and (3, T, N)

    def rollout(self, trainer: Trainer) -> None:
        """Tells them of a rollout."""
        if self.want_episodes:
            self._noted.append(trainer.episodes.last_rollout())
        self._tell("on_rollout", trainer)

    def update(self, trainer: Trainer, metrics: dict[str, Tensor | float]) -> None:
        """Tells them of an update."""
        self._tell("on_update", trainer, metrics)

    def log(self, trainer: Trainer) -> None:
        """Tells them of the episodes since the last log point: here alone the device is waited for."""
        if self.want_episodes and self._noted:
            ended = torch.cat([ended for ended, _ in self._noted])
            returns, lengths, successes = torch.cat([values for _, values in self._noted], 1)[:, ended]
            self._noted.clear()
            self._tell("on_episodes", trainer, Episodes(returns, lengths.long(), successes, ended.nonzero()[:, 1]))

    def checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Tells them of a checkpoint."""
        self._tell("on_checkpoint", trainer, path)

    def _tell(self, event: str, trainer: Trainer, *what: Any) -> None:
        if self._all:
            with global_kept():
                for callback in self._all:
                    getattr(callback, event)(trainer, *what)
