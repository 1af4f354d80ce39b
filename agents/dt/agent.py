"""The Decision Transformer (Chen et al. 2021, arXiv:2106.01345): reinforcement learning as sequence modelling."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.agents.dt.config import DTConfig
from rltrain.agents.dt.model import DTActor, Pieces
from rltrain.agents.parts.actors import keep_some_noise
from rltrain.agents.parts.networks import mask_logits
from rltrain.agents.parts.offline import OfflineAgent, Shuffled
from rltrain.agents.parts.optim import FlatAdam
from rltrain.data.dataset import Dataset
from rltrain.data.view import AgentView, refuse_forbidden_actions, rewards_of
from rltrain.rng import derive_seed, seeded
from rltrain.schedules import value_at


class DT(OfflineAgent):
    """Learns which action follows in the data where so much return is still to come, and acts for a large one.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N; not used.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the order of the data and the dropout.

    Raises:
        ConfigError: There is no network or distribution for one of the spaces, or Transformers is not installed.
    """

    config: DTConfig
    descriptions: ClassVar[dict[str, str]] = {
        "train/loss": "Mean negative log-likelihood of the actions in the data.",
        "train/return_loss": "Mean squared error of the predicted return to go, as a share of the largest in the data.",
    }

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: DTConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            actor = DTActor(observation_space, action_space, config.context, config.policy_kwargs)
        self.actor: DTActor = actor.to(self.device)
        self.distribution = actor.distribution
        self.optimizer = FlatAdam(self.actor.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.log_interval = 4
        self.n_updates = 0

    def use_data(self, dataset: Dataset) -> None:
        """Learns from all steps of this dataset; see :class:`OfflineAgent`.

        Raises:
            DatasetError: It does not fit the spaces, has rewards that are not finite, or actions that masks forbid.
        """
        refuse_forbidden_actions(dataset, self.action_space)
        self.view = AgentView(dataset, self.observation_space, self.action_space, device=self.device)
        length, end = dataset.episodes.length, dataset.episodes.end
        rewards = rewards_of(dataset)
        total = np.cumsum(rewards)
        self.end = np.repeat(end, length)  # (S,) the step after the last one of the episode of each
        self.time = np.arange(len(dataset)) - np.repeat(end - length, length)
        scale = max(float(np.abs(dataset.episodes.returns).max()), 1e-8)
        self.to_go = ((total[self.end - 1] - total + rewards) / scale).astype(np.float32)
        target = self.config.target_return
        target = float(dataset.episodes.returns.max()) if target is None else target
        self.actor.target.fill_(target / scale)
        self.batches = Shuffled(np.arange(len(dataset)), self.config.batch_size, derive_seed(self.seed, "data"))

    @property
    def rows_per_update(self) -> int:
        """Steps of the dataset that one call of ``learn`` takes in, those beyond the ends of episodes included."""
        return self.config.batch_size * self.config.context * self.config.gradient_steps

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` steps; metrics are means over them."""
        config, rows = self.config, []
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        for _ in range(config.gradient_steps):
            before = self.optimizer.flat.detach().clone()
            loss, error = self._losses(next(self.batches))
            norm = self.optimizer.step(loss + config.return_coef * error, learning_rate, reduce=self.reduce)
            self.optimizer.flat.data.sub_(before, alpha=learning_rate * config.weight_decay)
            keep_some_noise(self.distribution)
            self.n_updates += 1
            rows.append(torch.stack([loss.detach(), error.detach(), norm]))
        means = torch.stack(rows).mean(0)
        return {
            "train/loss": means[0],
            "train/return_loss": means[1],
            "train/grad_norm": means[2],
            "train/learning_rate": learning_rate,
            "train/n_updates": self.n_updates,
            "train/epochs": self.batches.passes,
        }

    def _losses(self, first: np.ndarray) -> tuple[Tensor, Tensor]:
        """The mean losses of pieces that begin with these steps (B,), with dropout: of actions, and of what follows."""
        k = self.config.context
        steps = first[:, None] + np.arange(k)
        there = steps < self.end[first][:, None]
        steps = np.minimum(steps, self.end[first][:, None] - 1).ravel()
        obs, action = self.view.obs(steps), self.view.action(steps)

        def table(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values.reshape(-1, k)).to(self.device)

        features, numbers = self.actor.encoder(obs), self.actor.numbers(action)
        pieces = Pieces(
            features.unflatten(0, (-1, k)),
            numbers.unflatten(0, (-1, k)),
            table(self.to_go[steps]),
            table(self.time[steps]),
        )
        last = steps + 1 == self.end[steps]
        follows = table(np.where(last, 0.0, self.to_go[np.where(last, steps, steps + 1)]).astype(np.float32))
        self.actor.model.train(True)
        with seeded(derive_seed(self.seed, "dropout", self.n_updates)):  # which draws from torch's own generator
            params, predicted = self.actor.predict(pieces)
        self.actor.model.train(False)
        raw = self.distribution.from_env(action)
        log_prob, _ = self.distribution.log_prob_entropy(mask_logits(params.flatten(0, 1), obs), raw)
        weight = table(there).to(log_prob.dtype)
        number = weight.sum()
        loss = -(log_prob * weight.flatten()).sum() / number
        return loss, ((predicted - follows).square() * weight).sum() / number

    def training_state(self) -> dict[str, Any]:
        """Optimizer, place in the data and counter; the dropout follows from the counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "data": self.batches.state_dict(),
            "n_updates": self.n_updates,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["data"])
        self.n_updates = state["n_updates"]
