"""Transitions of a dataset, and the base class of agents that learn values from them."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.agents.parts.offline import OfflineAgent, Shuffled, take_in
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.settings import OfflineConfig
from rltrain.agents.parts.targets import TargetNetworks
from rltrain.data.columns import TERMINATED
from rltrain.data.dataset import Dataset
from rltrain.data.view import IN_MEMORY, AgentView, Steps, refuse_forbidden_actions, rewards_of
from rltrain.errors import DatasetError
from rltrain.normalize import ObservationNormalizer, check_scaled
from rltrain.rng import derive_seed, generator_state, make_generator, set_generator_state
from rltrain.schedules import value_at


class Transitions:
    """Transitions of ``n_steps`` steps in a dataset, or of fewer where the episode ends before.

    A step whose outcome is not known (the last one of an episode that did not terminate, where the observation after
    it was not kept) ends no transition.

    Args:
        dataset: The dataset.
        observation_space: Space of a single observation as the agent sees it.
        action_space: Space of a single action of the agent.
        device: Where the tensors are.
        gamma: Discount factor.
        n_steps: Steps per transition.
        in_memory: Bytes of observations and actions up to which they are loaded once.

    Attributes:
        view: Observations and actions.
        steps: (S,) the steps that a transition begins with.

    Raises:
        DatasetError: It does not fit the spaces, has rewards that are not finite, or actions that masks forbid.
    """

    def __init__(
        self,
        dataset: Dataset,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device,
        *,
        gamma: float,
        n_steps: int = 1,
        in_memory: int = IN_MEMORY,
    ) -> None:
        refuse_forbidden_actions(dataset, action_space)
        self.view = AgentView(dataset, observation_space, action_space, device=device, in_memory=in_memory)
        every = np.arange(len(dataset))
        rewards = rewards_of(dataset)
        terminated = dataset.take(TERMINATED, every).astype(bool)
        ends = dataset.episodes.end
        end = np.repeat(ends, dataset.episodes.length)  # (S,) the step after the last one of the episode of each
        reward, discount, last = rewards.copy(), np.full(len(every), gamma), every.copy()
        for _ in range(n_steps - 1):
            more = last + 1 < end
            following = np.where(more, last + 1, last)
            reward += np.where(more, discount * rewards[following], 0.0)
            discount = np.where(more, discount * gamma, discount)
            last = following
        unknown = np.repeat(~dataset.episodes.has_final, dataset.episodes.length) & (last + 1 == end)
        self.steps = np.flatnonzero(terminated[last] | ~unknown)
        if not len(self.steps):
            raise DatasetError(
                f"No step of '{dataset.path}' has a known outcome.", "Record or import its last observations."
            )
        self.reward = torch.from_numpy(reward.astype(np.float32)).to(device)
        self.discount = torch.from_numpy(discount.astype(np.float32)).to(device)
        self.last = torch.from_numpy(last).to(device)
        self.terminated = torch.from_numpy(terminated[last]).to(device)

    def at(self, steps: Steps) -> Batch:
        """The transitions that begin with these steps (B,)."""
        index = steps if isinstance(steps, Tensor) else torch.from_numpy(steps).to(self.reward.device)
        reward, discount, terminated = (
            column.index_select(0, index) for column in (self.reward, self.discount, self.terminated)
        )
        last: Steps = self.last.index_select(0, index)
        if self.view.loaded is None:
            last = self.last.cpu().numpy()[steps if isinstance(steps, np.ndarray) else steps.cpu().numpy()]
        next_obs = self.view.next_obs(last)
        weight = torch.ones_like(reward)
        return Batch(
            self.view.obs(steps), self.view.action(steps), reward, next_obs, discount, terminated, weight, index
        )


class TransitionAgent(OfflineAgent, TargetNetworks):
    """An agent that learns from minibatches of a dataset's transitions, ``gradient_steps`` of them in an update.

    A subclass makes its networks, its ``actor``, its optimizers (attributes that are a
    :class:`~rltrain.agents.parts.optim.FlatAdam`) and, by :meth:`make_target`, its target networks, which follow after
    every minibatch. It defines what a gradient step is, by :meth:`update`.

    Attributes:
        rng: The agent's generator.
        n_updates: Gradient steps taken.
    """

    config: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: OfflineConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.log_interval = 4
        self.n_updates = 0
        self.obs_normalizer = (
            ObservationNormalizer(observation_space, device=self.device) if config.normalize_obs else None
        )

    @abstractmethod
    def update(self, batch: Batch, learning_rate: float) -> dict[str, Tensor]:
        """Takes a gradient step on a minibatch, whose rewards are scaled already; returns metrics by tag.

        The value of ``next_obs`` is multiplied by ``discount``, and is 0 after a termination.
        """

    def check(self) -> None:
        """Refuses options that would have no effect.

        Raises:
            ConfigError: There is nothing to normalise.
        """
        if self.config.normalize_obs:
            check_scaled(self.observation_space)

    def use_data(self, dataset: Dataset) -> None:
        """Learns from all transitions of this dataset; see :class:`OfflineAgent`."""
        config = self.config
        options = {"gamma": config.gamma, "n_steps": config.n_steps}
        self.data = Transitions(dataset, self.observation_space, self.action_space, self.device, **options)
        steps = self.data.steps
        self.batches = Shuffled(steps, config.batch_size, derive_seed(self.seed, "data"))
        if self.obs_normalizer is not None and not self.n_updates:
            take_in(self.obs_normalizer, self.data.view, steps)

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` steps; metrics are means over them."""
        config = self.config
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        seen = defaultdict(list)
        for _ in range(config.gradient_steps):
            batch = self.data.at(next(self.batches))
            self.n_updates += 1
            for tag, value in self.update(
                batch._replace(reward=batch.reward * config.reward_scale), learning_rate
            ).items():
                seen[tag].append(value)
            self._move_targets(1)
        means: Metrics = {tag: torch.stack(values).mean() for tag, values in seen.items()}
        return means | {
            "train/learning_rate": learning_rate,
            "train/n_updates": self.n_updates,
            "train/epochs": self.batches.passes,
        }

    def training_state(self) -> dict[str, Any]:
        """Optimizers, generator, place in the data and counter."""
        return {
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "rng": generator_state(self.rng),
            "data": self.batches.state_dict(),
            "n_updates": self.n_updates,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name])
        set_generator_state(self.rng, state["rng"])
        self.batches.load_state_dict(state["data"])
        self.n_updates = state["n_updates"]
