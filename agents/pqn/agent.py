"""PQN: Q-learning on rollouts of many environments, with a network whose layers are normalised."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Metrics
from rltrain.agents.parts.actors import GreedyActor
from rltrain.agents.parts.exploration import EpsilonGreedy, epsilon_at
from rltrain.agents.parts.manual_grad import Chain
from rltrain.agents.parts.on_policy import OnPolicyAgent
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.q_network import QNetwork, at_action
from rltrain.agents.parts.returns import lambda_returns
from rltrain.agents.parts.rollout import in_chunks
from rltrain.agents.pqn.config import PQNConfig
from rltrain.env import Observation
from rltrain.rng import derive_seed, seeded
from rltrain.schedules import value_at
from rltrain.spaces import bytes_of


class PQN(OnPolicyAgent):
    """Parallelised Q-learning, Gallici et al. (2024), arXiv:2407.04811, algorithm 1.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, Discrete.
        num_envs: N.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Of the initial weights, the exploration and the minibatches.

    Raises:
        ConfigError: A space that there are no action values for.
    """

    config: PQNConfig
    compiled_methods = ("_choose", "_loss")
    graph_methods: ClassVar = {"_choose": False, "targets": False, "_update": True}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: PQNConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            self.policy = QNetwork(observation_space, action_space, config.policy_kwargs).to(self.device)
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.chain = self.policy.chain()
        self.explore = EpsilonGreedy(self.horizon, num_envs, self.policy.n_actions, self.device, self.rng)
        self.first_action = int(getattr(action_space, "start", 0))
        self.actor = GreedyActor(self.policy, config.exploration_final_eps, self.first_action, self.obs_normalizer)

    def use_bfloat16(self) -> None:
        """Lets the network multiply in bfloat16; its gradients come from autograd then."""
        self.chain = None
        self.policy.use_bfloat16(self.device)

    def memory(self) -> int:
        """Bytes of the rollout, of its copy in random order, and of what is computed for all of it."""
        return self.horizon * self.num_envs * (3 * bytes_of(self.observation_space) + 64)

    @property
    def epsilon(self) -> float:
        """The chance of a random action."""
        return epsilon_at(self.config, self.progress_remaining)

    @torch.no_grad()
    def act(self, obs: Observation, state: Tensor | None = None) -> ActOut:
        """Epsilon-greedy actions (N,); stores them and the observation."""
        action = self._choose(obs, self.scalar(self.epsilon), self._chance())
        self.rollout.store(obs=obs, action=action)
        return ActOut(action + self.first_action if self.first_action else action)

    def _choose(self, obs: Observation, epsilon: float | Tensor, chance: Tensor) -> Tensor:
        """Actions (N,), counted from 0."""
        values = self.policy.values(self._normalized(obs), self.chain)
        return self.explore.choose(values, obs, epsilon, chance)

    def learn(self) -> Metrics:
        """Runs ``n_epochs`` over the rollout; metrics are means over the minibatches."""
        config = self.config
        obs = self._flat(self._normalized(self.rollout["obs"]))
        action, target = self._flat(self.rollout["action"]), self.targets()
        batch = {"obs": obs, "action": action, "target": target}
        if self.chain is not None:
            batch["taken"] = at_action(torch.ones_like(target), action, self.policy.n_actions)
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        step_size = self.scalar(learning_rate)
        losses, norms = [], []
        for _ in range(config.n_epochs):
            for minibatch in self._minibatches(batch):
                loss, norm = self._update(minibatch, step_size)
                losses.append(loss)
                norms.append(norm)
        self.n_updates += config.n_epochs
        self._update_obs_normalizer()
        self.rollout.clear()
        return {
            "rollout/exploration_rate": self.epsilon,
            "train/loss": torch.stack(losses).mean(0),
            "train/grad_norm": torch.stack(norms).mean(0),
            "train/q_target": target.mean(-1),
            "train/learning_rate": learning_rate,
            "train/n_updates": self.n_updates,
        }

    def _update(self, minibatch: dict[str, Any], learning_rate: float | Tensor) -> tuple[Tensor, Tensor]:
        """A step on a minibatch: the loss, and the norm of the gradient."""
        loss = self._loss(minibatch)
        if self.chain is not None:
            return loss, self.optimizer.step(None, learning_rate, reduce=self.reduce)
        return loss.detach(), self.optimizer.step(loss, learning_rate, reduce=self.reduce)

    def _loss(self, minibatch: dict[str, Any]) -> Tensor:
        """Along a chain its gradients are in place afterwards."""
        if self.chain is None:
            return td_loss(self.policy, minibatch)
        return td_loss_backward(self.policy, self.chain, minibatch)

    @torch.no_grad()
    def targets(self) -> Tensor:
        """Q(lambda) returns (T * N,) of the rollout; what follows a step is valued in one pass."""
        rollout, config = self.rollout, self.config
        final_obs = self._flat(self._normalized(rollout["final_obs"]))
        following = in_chunks(lambda obs: self.policy.values(obs, self.chain).amax(-1), final_obs, 16_384)
        returns = lambda_returns(
            rollout["reward"],
            self._by_step(following),
            rollout["terminated"],
            rollout["truncated"],
            gamma=config.gamma,
            q_lambda=config.q_lambda,
        )
        return self._flat(returns)

    def _chance(self) -> Tensor:
        """For the actions of a step."""
        return self.explore.chance()


def td_loss(policy: QNetwork, batch: Any) -> Tensor:
    """Half the mean square of the error, as in algorithm 1."""
    predicted = policy(batch["obs"]).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
    return 0.5 * (predicted - batch["target"]).square().mean()


def td_loss_backward(policy: QNetwork, chain: Chain, batch: Any) -> Tensor:
    """What :func:`td_loss` gives; the gradients of its network are in place afterwards.

    ``taken`` in the batch is (B, A): 1 for the action, 0 for the others. Of K networks whose parameters are stacked,
    with (K, B, ...) in the batch, (K,).
    """
    rows = batch["target"].shape[-1]
    error = (chain.forward(policy.encoder(batch["obs"])) - batch["target"].unsqueeze(-1)).mul_(batch["taken"])
    chain.backward(error / rows)
    return error.square().sum((-2, -1)) / (2 * rows)
