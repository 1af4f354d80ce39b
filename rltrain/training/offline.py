"""The training loop of agents that learn from a dataset: learn, and at intervals log, evaluate, save and film."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from rltrain.data.card import note_privacy
from rltrain.errors import ConfigError, DatasetError
from rltrain.runs.folder import RunFolder
from rltrain.training.callback_list import CallbackList
from rltrain.training.setup import Setup
from rltrain.training.trainer import Trainer

if TYPE_CHECKING:
    from rltrain.agents.parts.offline import OfflineAgent


class OfflineTrainer(Trainer):
    """Trains an agent on a dataset; see :class:`~rltrain.training.trainer.Trainer` for the arguments.

    ``global_step`` counts steps of the dataset that were learned from. The environments are stepped by evaluations and
    films alone, which have their own.
    """

    agent: OfflineAgent

    def __init__(self, setup: Setup, folder: RunFolder, interrupted: Callable[[], bool] = lambda: False) -> None:
        super().__init__(setup, folder, interrupted)
        self.steps_at_once = self.agent.rows_per_update

    @staticmethod
    def check_callbacks(algo: str, callbacks: CallbackList) -> None:
        """Refuses callbacks that need the episodes of training, of which there are none.

        Raises:
            ConfigError: A callback needs them.
        """
        if callbacks.want_episodes:
            raise ConfigError(f"{algo} plays no episodes in training.", "Leave on_episodes out of the callback.")

    def collect(self) -> None:
        """Counts: the data are there."""
        self.collected()

    def given(self) -> None:
        """Nothing: no environment was stepped."""

    def reason_to_stop(self) -> str | None:
        """Why it ends; also ``early_stop``, if the agent has learned enough."""
        reason = super().reason_to_stop()
        return "early_stop" if reason is None and self.agent.finished else reason

    def end(self, reason: str) -> None:
        """Lets the agent conclude, and does what every trainer does; a run that was interrupted goes on later."""
        if reason != "interrupted":
            self.agent.conclude()
        super().end(reason)
        if (promise := self.agent.privacy()) is not None and self.setup.dataset is not None:
            self.folder.update_metadata({"privacy": promise})
            try:
                note_privacy(self.setup.dataset.path, {"run": str(self.folder.path.absolute()), **promise})
            except (DatasetError, OSError) as error:  # the policy is saved
                warnings.warn(f"The card of the dataset does not say what was spent. {error}", stacklevel=2)
