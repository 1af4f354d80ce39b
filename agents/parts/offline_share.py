"""The part of the minibatches of a replay that comes from a dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium.spaces import Space
from torch import Tensor

from rltrain.agents.parts.hindsight import HindsightReplay
from rltrain.agents.parts.replay import Batch, PrioritizedReplay, Replay
from rltrain.agents.parts.settings import OffPolicyConfig
from rltrain.agents.parts.transitions import Transitions
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.tree import tree_map


class OfflineShare:
    """Draws a share of every minibatch from a dataset, uniformly and on the device.

    Ball et al. (2023), arXiv:2302.02948, section 4.1, take half of each minibatch from the data and half from the
    replay.

    Args:
        dataset: The dataset.
        spaces: Spaces of a single observation and a single action of the agent.
        config: Says which share, the size of a minibatch, and what transitions are.
        replay: The replay that the rest comes from.
        from_env: Converts actions of the environment to actions as the replay has them.
        rng: Generator of the draws.

    Raises:
        DatasetError: The dataset does not fit the spaces.
        ConfigError: The share is less than one transition of a minibatch, the dataset is larger than what is held in
            memory, or the replay gives priorities or goals to its transitions, which those of the dataset do not have.
    """

    def __init__(
        self,
        dataset: Dataset,
        spaces: tuple[Space, Space],
        config: OffPolicyConfig,
        replay: Replay,
        from_env: Callable[[Tensor], Tensor],
        rng: torch.Generator | None,
    ) -> None:
        if isinstance(replay, PrioritizedReplay | HindsightReplay):
            other = "prioritized_replay" if isinstance(replay, PrioritizedReplay) else "n_sampled_goal"
            raise ConfigError(f"offline_fraction does not go together with {other}.", "Leave one of them out.")
        self.from_env, self.rng, self.size = from_env, rng, config.batch_size
        self.offline = round(config.offline_fraction * self.size)
        if not 0 < self.offline < self.size:
            what = (
                f"offline_fraction={config.offline_fraction:g} of batch_size={self.size} is {self.offline} transitions."
            )
            raise ConfigError(what, "Give a share that leaves some of each kind.")
        self.data = Transitions(dataset, *spaces, replay.device, gamma=config.gamma, n_steps=config.n_steps)
        if self.data.view.loaded is None:
            what = f"'{dataset.path}' is larger than the 1 GiB that are held in memory to draw from."
            raise ConfigError(what, "Take a part of it: rltrain data split.")
        self.steps = torch.from_numpy(self.data.steps).to(replay.device)

    def join(self, replayed: Callable[[int], Batch], size: int) -> Batch:
        """``size`` transitions, in each minibatch of which the first are of the replay and the others of the dataset.

        Args:
            replayed: Draws so many from the replay.
            size: A multiple of the size of a minibatch.
        """
        minibatches = size // self.size
        online = replayed(minibatches * (self.size - self.offline))
        number = minibatches * self.offline
        rows = torch.randint(len(self.steps), (number,), device=self.steps.device, generator=self.rng)
        offline = self.data.at(self.steps.index_select(0, rows))
        offline = offline._replace(action=self.from_env(offline.action))

        def joined(first: Tensor, second: Tensor) -> Tensor:
            parts = first.unflatten(0, (minibatches, -1)), second.unflatten(0, (minibatches, -1))
            return torch.cat(parts, 1).flatten(0, 1)

        mixed: dict[str, Any] = {
            name: tree_map(joined, getattr(online, name), getattr(offline, name)) for name in Batch._fields
        }
        return Batch(**mixed)
