"""Fitted Q evaluation: action values of a given policy, learned from a dataset.

Le, Voloshin and Yue (2019), arXiv:1903.08738, section 4.1; its bootstrap by episodes is that of Hao et al. (2021),
arXiv:2102.03607.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Actor
from rltrain.agents.parts.critics import Critics, action_encoder
from rltrain.agents.parts.offline import Shuffled, take_in
from rltrain.agents.parts.optim import FlatAdam, lay_flat
from rltrain.agents.parts.settings import NetworkKwargs
from rltrain.agents.parts.transitions import Transitions
from rltrain.data.columns import REWARD
from rltrain.data.dataset import Dataset
from rltrain.data.view import chunks
from rltrain.env import Observation
from rltrain.evaluation.importance import Estimate
from rltrain.normalize import ObservationNormalizer
from rltrain.process.stopping import check
from rltrain.rng import derive_seed, make_generator, seeded

DECAY = 0.99  # of what a target network keeps with each step


class FittedQ:
    """Action values of a policy, by several critics, each of which has learned from a bootstrap sample of the episodes.

    Args:
        dataset: Transitions of any policies.
        actor: The policy to evaluate.
        observation_space: Space of a single observation as the policy sees it.
        action_space: Space of a single action of the policy.
        gamma: Discount factor, below 1.
        deterministic: Whether the policy takes its likeliest action rather than a sample.
        critics: How many; the first learns from all episodes once.
        device: Where it is computed.
        seed: Seed of weights, samples and minibatches.

    Raises:
        DatasetError: The dataset does not fit the policy.
    """

    def __init__(
        self,
        dataset: Dataset,
        actor: Actor,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        gamma: float,
        deterministic: bool = True,
        critics: int = 11,
        batch_size: int = 128,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        where = torch.device(device)
        self.actor, self.deterministic, self.dataset = actor, deterministic, dataset
        self.data = Transitions(dataset, observation_space, action_space, where, gamma=gamma)
        self.rng = make_generator(where, derive_seed(seed, "actions"))
        self.batches = Shuffled(self.data.steps, batch_size, derive_seed(seed, "data"))
        self.numbers = action_encoder(action_space).to(where)
        self.normalizer = ObservationNormalizer(observation_space, device=where)
        take_in(self.normalizer, self.data.view, self.data.steps)
        with seeded(derive_seed(seed, "weights")):
            network = Critics(
                observation_space, self.numbers.size, NetworkKwargs(), [64, 64], n_critics=critics, layer_norm=True
            )
        self.network = network.to(where)
        self.optimizer = FlatAdam(self.network.parameters(), eps=1e-8, max_grad_norm=None)
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.target_flat = lay_flat(list(self.target.parameters()))
        self.counts = self._bootstrap(critics, seed)
        of_step = torch.from_numpy(np.repeat(self.counts, dataset.episodes.length, axis=1).astype(np.float32))
        self.weights = of_step.to(where)  # (C, S)
        # Networks learn values of moderate size best; these are between the largest reward and its endless sum.
        largest = float(np.abs(self.dataset.take(REWARD, self.data.steps)).max())
        self.scale = max(largest, 1e-8) / (1.0 - gamma) ** 0.5

    def _bootstrap(self, critics: int, seed: int) -> np.ndarray:
        """How often each episode is in the sample of each critic, (C, E)."""
        episodes = len(self.dataset.episodes)
        rng = np.random.default_rng(derive_seed(seed, "bootstrap"))
        drawn = rng.multinomial(episodes, np.full(episodes, 1.0 / episodes), critics - 1)
        return np.concatenate([np.ones((1, episodes), np.int64), drawn])

    def fit(self, steps: int, learning_rate: float = 2e-3) -> None:
        """Takes so many gradient steps, whose step size falls to a hundredth."""
        for step in range(steps):
            check()
            rate = learning_rate * 0.01 ** (step / steps)
            batch = self.data.at(next(self.batches))
            with torch.no_grad():
                follows = self._values(self.target, batch.next_obs, self._acted(batch.next_obs))
                follows = follows.masked_fill(batch.terminated, 0.0)
                target = batch.reward / self.scale + batch.discount * follows
            said = self._values(self.network, batch.obs, batch.action)
            loss = ((said - target).square() * self.weights.index_select(1, batch.place)).mean(1).sum()
            self.optimizer.step(loss, rate, reduce=lambda gradient: gradient)
            self.target_flat.lerp_(self.optimizer.flat.detach(), 1.0 - DECAY)

    @torch.no_grad()
    def value(self) -> Estimate:
        """The mean value of the first observations of the episodes.

        The interval is 1.96 standard deviations of the critics to each side: there are few of them.
        """
        first = self.dataset.episodes.start
        values = np.empty((self.counts.shape[0], len(first)))
        for chunk in chunks(np.arange(len(first))):
            obs = self.data.view.obs(first[chunk])
            values[:, chunk] = self._values(self.network, obs, self._acted(obs)).cpu().numpy() * self.scale
        means = (values * self.counts).sum(1) / self.counts.sum(1)
        half = 1.96 * float(means[1:].std(ddof=1))
        return Estimate(float(means[0]), (float(means[0]) - half, float(means[0]) + half))

    def _values(self, network: Critics, obs: Observation, action: Tensor) -> Tensor:
        """(C, B)."""
        said: Any = network(self.normalizer(obs), self.numbers(action))
        return said

    def _acted(self, obs: Observation) -> Tensor:
        return self.actor(obs, deterministic=self.deterministic, rng=self.rng).action
