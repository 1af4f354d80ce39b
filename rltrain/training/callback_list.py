"""All callbacks of a run as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from rltrain.callbacks import Callback, Episodes, Training
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.rng import global_kept
from rltrain.training.metrics import EpisodeStats


class Counting(Training, Protocol):
    """A training run that keeps statistics of its episodes."""

    episodes: EpisodeStats


class CallbackList:
    """Calls every callback of a run; does nothing if there are none.

    Raises:
        ConfigError: They are no list, or one of them is not a :class:`Callback`.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        if not isinstance(callbacks, list | tuple):
            fix = "Give a list: callbacks=[...]." if callbacks is not None else "Leave it out, or give a list."
            raise ConfigError(f"callbacks={callbacks!r} is no list of callbacks.", fix)
        for callback in callbacks:
            if not isinstance(callback, Callback):
                fix = "Subclass rltrain.Callback, and give an instance."
                raise ConfigError(f"{callback!r} is no callback.", fix)
        self._all = list(callbacks)
        self.want_episodes = any(type(each).on_episodes is not Callback.on_episodes for each in self._all)
        self._noted: list[tuple[Tensor, Tensor]] = []  # since the last log point: (T, N) bool, and (3, T, N)

    def setup(self, config: TrainConfig) -> None:
        """Lets each look at the configuration.

        Raises:
            ConfigError: One of them does not fit it.
        """
        for callback in self._all:
            callback.on_setup(config)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._all)

    def state_dict(self, trainer: Training) -> dict[str, Any]:
        """What each remembers, by its place in the list."""
        states = {str(i): (type(each).__qualname__, each.state_dict(trainer)) for i, each in enumerate(self._all)}
        return {place: {"class": name, "state": state} for place, (name, state) in states.items() if state}

    def load_state_dict(self, trainer: Training, state: Mapping[str, Any]) -> None:
        """Gives back what :meth:`state_dict` gave to those of the same class in the same place."""
        for i, callback in enumerate(self._all):
            saved = state.get(str(i), {})
            if saved.get("class") == type(callback).__qualname__:
                callback.load_state_dict(trainer, saved["state"])

    def rollout(self, trainer: Counting) -> None:
        """Tells them of a rollout."""
        if self.want_episodes:
            self._noted.append(trainer.episodes.last_rollout())
        self._tell("on_rollout", trainer)

    def update(self, trainer: Training, metrics: dict[str, Tensor | float]) -> None:
        """Tells them of an update."""
        self._tell("on_update", trainer, metrics)

    def evaluation(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """Tells them of an evaluation."""
        self._tell("on_evaluation", trainer, metrics)

    def log(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """Tells them of a log point, and of the episodes since the last one. No other call waits for the device."""
        self._tell("on_log", trainer, metrics)
        if self.want_episodes and self._noted:
            ended = torch.cat([ended for ended, _ in self._noted])
            returns, lengths, successes = torch.cat([values for _, values in self._noted], 1)[:, ended]
            self._noted.clear()
            self._tell("on_episodes", trainer, Episodes(returns, lengths.long(), successes, ended.nonzero()[:, 1]))

    def checkpoint(self, trainer: Training, path: Path) -> None:
        """Tells them of a checkpoint."""
        self._tell("on_checkpoint", trainer, path)

    def _tell(self, event: str, trainer: Training, *what: Any) -> None:
        if self._all:
            with global_kept():
                for callback in self._all:
                    getattr(callback, event)(trainer, *what)
