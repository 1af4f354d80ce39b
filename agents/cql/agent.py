"""Conservative Q-learning (Kumar et al. 2020, arXiv:2006.04779) for discrete actions."""

from __future__ import annotations

from typing import ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.cql.config import CQLConfig
from rltrain.agents.cql.loss import cql_loss
from rltrain.agents.parts.actors import GreedyActor
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.td import td_target
from rltrain.agents.parts.transitions import TransitionAgent
from rltrain.rng import derive_seed, seeded

EPSILON = 0.05
"""The chance of a random action where a sample of the policy is asked for."""


class CQL(TransitionAgent):
    """Q-learning from a dataset, with a penalty on the values of actions that the data do not have.

    The network is DQN's, under the same names, so that a run of DQN can start from it.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, Discrete.
        num_envs: N; not used.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights and the order of the data.

    Raises:
        ConfigError: The action space is not Discrete, or no network fits the observation space.
    """

    config: CQLConfig
    descriptions: ClassVar[dict[str, str]] = {
        "train/penalty": "Mean of logsumexp of the action values minus the value of the action in the data.",
    }

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: CQLConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            policy = QNetwork(observation_space, action_space, config.policy_kwargs, dueling=config.dueling)
        self.policy = policy.to(self.device)
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.target = self.make_target(self.policy, self.optimizer)
        self.first_action = int(getattr(action_space, "start", 0))
        self.actor = GreedyActor(self.policy, EPSILON, self.first_action, self.obs_normalizer)

    def update(self, batch: Batch, learning_rate: float) -> dict[str, Tensor]:
        """Takes a step along the gradient of the loss."""
        if self.obs_normalizer is not None:
            scale = self.obs_normalizer
            batch = batch._replace(obs=scale(batch.obs), next_obs=scale(batch.next_obs))
        target = td_target(batch, self.target, self.policy if self.config.double_q else None).squeeze(1)
        values = self.policy(batch.obs)
        loss, error, penalty = cql_loss(values, batch.action - self.first_action, target, self.config.alpha)
        norm = self.optimizer.step(loss, learning_rate, reduce=self.reduce)
        return {
            "train/loss": loss.detach(),
            "train/td_loss": error.detach(),
            "train/penalty": penalty.detach(),
            "train/q_target": target.mean(),
            "train/grad_norm": norm,
        }
