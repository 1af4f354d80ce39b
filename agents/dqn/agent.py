"""DQN, with the improvements of Rainbow (Hessel et al. 2018, arXiv:1710.02298) as options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Metrics
from rltrain.agents.dqn.config import DQNConfig
from rltrain.agents.dqn.loss import td_loss
from rltrain.agents.parts.actors import GreedyActor
from rltrain.agents.parts.exploration import EpsilonGreedy, epsilon_at
from rltrain.agents.parts.off_policy import OffPolicyAgent, Update
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.q_network import QNetwork, at_action, from_policy
from rltrain.agents.parts.replay import Batch, PrioritizedReplay
from rltrain.agents.parts.td import td_target
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, seeded


class DQN(OffPolicyAgent):
    """Deep Q-learning. The replay, the exploration and the updates stay on the device.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, Discrete.
        num_envs: N.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the exploration and the minibatches.

    Raises:
        ConfigError: The action space is not Discrete, or no network fits the observation space.
    """

    config: DQNConfig
    targets_follow = "environment steps"
    compiled_methods = ("_choose", "_loss", "_target")
    graph_methods: ClassVar = {"_choose": False, "prepare": False, "update": True}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: DQNConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            self.policy = QNetwork(
                observation_space,
                action_space,
                config.policy_kwargs,
                dueling=config.dueling,
                n_quantiles=config.n_quantiles if config.distributional else 1,
                noisy=config.noisy,
            ).to(self.device)
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.target = self.make_target(self.policy, self.optimizer)
        self.explore = EpsilonGreedy(self.horizon, num_envs, self.policy.n_actions, self.device, self.rng)
        self.first_action = int(getattr(action_space, "start", 0))
        self.actor = GreedyActor(self.policy, config.exploration_final_eps, self.first_action)

    def from_policy(self, state: Mapping[str, Tensor], config: Callable[[], Any]) -> dict[str, Tensor]:
        """Takes the logits of a policy's actions, such as a clone's, for their values."""
        return from_policy(state)

    def use_bfloat16(self) -> None:
        """Lets the networks multiply in bfloat16."""
        for network in (self.policy, self.target):
            network.use_bfloat16(self.device)

    def compile(self, *args: Any, **options: Any) -> None:
        """Does the same as for every agent.

        Raises:
            ConfigError: The network has noisy layers.
        """
        if self.config.noisy:
            raise ConfigError(
                "Noisy layers draw from a generator of the agent's own, which torch.compile cannot do.",
                "Leave out --compile or --agent.noisy.",
            )
        super().compile(*args, **options)

    @property
    def epsilon(self) -> float:
        """The chance of a random action."""
        return 1.0 if self.warming_up else epsilon_at(self.config, self.progress_remaining)

    def sample_actions(self, obs: Observation) -> Tensor:
        """Epsilon-greedy actions (N,), counted from 0."""
        with self.policy.noise(self.rng):
            return self._choose(obs, self.scalar(self.epsilon), self.explore.chance())

    def _choose(self, obs: Observation, epsilon: float | Tensor, chance: Tensor) -> Tensor:
        return self.explore.choose(self.policy(obs), obs, epsilon, chance)

    def to_env(self, action: Tensor) -> Tensor:
        """Actions counted from the first of the space."""
        return action + self.first_action if self.first_action else action

    def from_env(self, action: Tensor) -> Tensor:
        """Actions counted from 0."""
        return action - self.first_action if self.first_action else action

    @property
    def drawn_ahead(self) -> bool:
        """Whether targets stay the same during an update: not if they depend on the trained network or on noise."""
        return super().drawn_ahead and not (self.config.double_q or self.config.noisy)

    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Transitions with their targets."""
        with self.policy.noise(self.rng), self.target.noise(self.rng):
            target = self._target(batch)
        return {
            "obs": batch.obs,
            "action": batch.action,
            "target": target,
            "share": at_action(batch.weight / self.config.batch_size, batch.action, self.policy.n_actions),
            "place": batch.place,
        }

    def _target(self, batch: Batch) -> Tensor:
        return td_target(batch, self.target, self.policy if self.config.double_q else None)

    def update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> Update:
        """Takes a step along the gradient of the loss."""
        with self.policy.noise(self.rng):
            scalar, loss, error = self._loss(batch)
        norm = self.optimizer.step(scalar, learning_rate, reduce=self.reduce)
        metrics = {"train/loss": loss, "train/grad_norm": norm, "train/q_target": batch["target"]}
        if error.dim() > 1 and isinstance(self.replay, PrioritizedReplay):  # which needs those of the actions taken
            error = error.gather(1, batch["action"].unsqueeze(1)).squeeze(1)
        return Update(metrics, error)

    def _loss(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor, Tensor]:
        return td_loss(self.policy, batch)

    def values(self, batch: Batch) -> Tensor:
        """The values (B,) of the best actions."""
        return self.policy(batch.obs).amax(1)

    def learn(self) -> Metrics:
        """Learns like every agent with a replay; also reports the chance of a random action."""
        return {"rollout/exploration_rate": self.epsilon, **super().learn()}
