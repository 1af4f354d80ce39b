"""The base class of agents that learn from a dataset, and the order in which they go through it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from rltrain.agent import ActOut, Agent, State
from rltrain.data.dataset import Dataset
from rltrain.data.view import AgentView, chunks
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer
from rltrain.rng import derive_seed
from rltrain.vec import VecStep


class OfflineAgent(Agent):
    """An agent that learns from a dataset and never steps the environments.

    The trainer calls :meth:`use_data` before training, then ``learn`` again and again, and :meth:`conclude` at the end.
    Its config has ``batch_size`` and ``gradient_steps``.

    Attributes:
        finished: Whether it has learned enough by its own measure.
    """

    config: Any
    horizon = 1
    finished = False

    @abstractmethod
    def use_data(self, dataset: Dataset) -> None:
        """Learns from this dataset from now on.

        Raises:
            DatasetError: It does not fit the spaces, or cannot be learned from.
        """

    @property
    def rows_per_update(self) -> int:
        """Steps of the dataset that one call of ``learn`` takes in."""
        return self.config.batch_size * self.config.gradient_steps

    def privacy(self) -> dict[str, Any] | None:
        """What the policy promises to those whose data it has learned from, as JSON values; None if that is nothing."""
        return None

    def conclude(self) -> None:
        """Called once when training is over, before the last checkpoint."""

    @torch.no_grad()
    def act(self, obs: Observation, state: State = None) -> ActOut:
        """The actor's actions: there is nothing to explore."""
        return self.actor(obs, state)

    def record(self, out: ActOut, step: VecStep) -> None:
        """Does nothing: what environments give is not learned from."""


def take_in(normalizer: ObservationNormalizer, view: AgentView, steps: np.ndarray) -> None:
    """Updates the statistics of a normaliser by the observations of these steps."""
    for chunk in chunks(steps):
        normalizer.update(view.obs(chunk))


class Shuffled:
    """Endless minibatches of rows, all of which come once before any comes again.

    The order of each pass follows from the seed and the number of the pass, so the place in it is all there is to
    save. A minibatch may take the end of one pass and the beginning of the next.

    Args:
        rows: The rows to go through.
        batch_size: Rows of a minibatch.
        seed: Seed of the orders.
    """

    def __init__(self, rows: np.ndarray, batch_size: int, seed: int) -> None:
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.epoch, self.position = 0, 0
        self._order: tuple[int, np.ndarray] | None = None

    def __next__(self) -> np.ndarray:
        """The next minibatch, (batch_size,)."""
        pieces, wanted = [], self.batch_size
        while wanted:
            piece = self._ordered()[self.position : self.position + wanted]
            pieces.append(piece)
            wanted -= len(piece)
            self.position += len(piece)
            if self.position == len(self.rows):
                self.epoch, self.position = self.epoch + 1, 0
        return self.rows[np.concatenate(pieces)]

    @property
    def passes(self) -> float:
        """How often all rows have been gone through."""
        return self.epoch + self.position / len(self.rows)

    def _ordered(self) -> np.ndarray:
        if self._order is None or self._order[0] != self.epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "epoch", self.epoch))
            self._order = self.epoch, torch.randperm(len(self.rows), generator=generator).numpy()
        return self._order[1]

    def state_dict(self) -> dict[str, Any]:
        """The place."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a place."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
