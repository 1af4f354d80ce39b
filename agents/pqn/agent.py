"""PQN: Q-learning on rollouts of many environments, with a network whose layers are normalised."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Agent, Metrics
from rltrain.agents.chain import Chain
from rltrain.agents.exploration import EpsilonGreedy, epsilon_at
from rltrain.agents.optim import FlatAdam
from rltrain.agents.pqn.config import PQNConfig
from rltrain.agents.q_network import QNetwork, at_action
from rltrain.agents.returns import lambda_returns
from rltrain.agents.rollout import Rollout, flat, in_chunks, shuffled_minibatches, warn_of_remainder
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer
from rltrain.rng import derive_seed, generator_state, make_generator, seeded, set_generator_state
from rltrain.schedules import value_at
from rltrain.spaces import bytes_of
from rltrain.vec import VecStep


class PQN(Agent):
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
    pieces = ("_choose", "_loss")
    recordings: ClassVar = {"_choose": False, "targets": False, "_update": True}

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
        self.horizon = config.n_steps
        with seeded(derive_seed(seed, "weights")):
            self.policy = QNetwork(observation_space, action_space, config.policy_kwargs).to(self.device)
        self.obs_normalizer = (
            ObservationNormalizer(observation_space, device=self.device) if config.normalize_obs else None
        )
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.chain = self.policy.chain()
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.explore = EpsilonGreedy(self.horizon, num_envs, self.policy.n_actions, self.device, self.rng)
        self.first_action = int(getattr(action_space, "start", 0))
        self.rollout = Rollout(self.horizon)
        self.n_updates = 0

    def use_bfloat16(self) -> None:
        """Lets the network multiply in bfloat16; its gradients come from autograd then."""
        self.chain = None
        self.policy.use_bfloat16(self.device)

    def check(self) -> None:
        """Warns of hyperparameters that fit together badly."""
        warn_of_remainder(self.horizon, self.num_envs, self.config.batch_size)

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
        action = self._choose(obs, self.scalar(self.epsilon), self.explore.chance())
        self.rollout.store(obs=obs, action=action)
        return ActOut(action + self.first_action if self.first_action else action)

    def _choose(self, obs: Observation, epsilon: float | Tensor, chance: Tensor) -> Tensor:
        """Actions (N,), counted from 0."""
        values = self.policy.values(self._normalized(obs), self.chain)
        return self.explore.choose(values, obs, epsilon, chance)

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``."""
        self.rollout.store(
            reward=step.reward, terminated=step.terminated, truncated=step.truncated, final_obs=step.final_obs
        )
        self.rollout.advance()

    def learn(self) -> Metrics:
        """Runs ``n_epochs`` over the rollout; metrics are means over the minibatches."""
        config = self.config
        obs = flat(self.rollout["obs"])
        action, target = flat(self.rollout["action"]), self.targets()
        batch = {"obs": self._normalized(obs), "action": action, "target": target}
        if self.chain is not None:
            batch["taken"] = at_action(torch.ones_like(target), action, self.policy.n_actions)
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        step_size = self.scalar(learning_rate)
        losses, norms = [], []
        for _ in range(config.n_epochs):
            for minibatch in shuffled_minibatches(batch, config.batch_size, self.rng):
                loss, norm = self._update(minibatch, step_size)
                losses.append(loss)
                norms.append(norm)
        self.n_updates += config.n_epochs
        if self.obs_normalizer is not None:  # only now: acting and learning saw the same statistics
            self.obs_normalizer.update(obs)
        self.rollout.clear()
        return {
            "rollout/exploration_rate": self.epsilon,
            "train/loss": torch.stack(losses).mean(),
            "train/grad_norm": torch.stack(norms).mean(),
            "train/q_target": target.mean(),
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
        final_obs = flat(self._normalized(rollout["final_obs"]))
        following = in_chunks(lambda obs: self.policy.values(obs, self.chain).amax(1), final_obs, 16_384)
        return lambda_returns(
            rollout["reward"],
            following.view_as(rollout["reward"]),
            rollout["terminated"],
            rollout["truncated"],
            gamma=config.gamma,
            q_lambda=config.q_lambda,
        ).flatten()

    @torch.no_grad()
    def predict(
        self,
        obs: Observation,
        state: Tensor | None = None,
        *,
        deterministic: bool = True,
        rng: torch.Generator | None = None,
    ) -> ActOut:
        """The best actions (N,) for ``obs`` without a trace; if not deterministic, as at the end of training."""
        values = self.policy(self._normalized(obs))
        if deterministic:
            return ActOut(values.argmax(1) + self.first_action)
        explore = EpsilonGreedy(1, len(values), self.policy.n_actions, self.device, rng)
        return ActOut(explore(values, obs, self.config.exploration_final_eps) + self.first_action)

    def _normalized(self, obs: Observation) -> Observation:
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator and counter."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rng": generator_state(self.rng),
            "n_updates": self.n_updates,
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        set_generator_state(self.rng, state["rng"])
        self.n_updates = state["n_updates"]


def td_loss(policy: QNetwork, batch: Any) -> Tensor:
    """Half the mean square of the error, as in algorithm 1."""
    predicted = policy(batch["obs"]).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
    return 0.5 * (predicted - batch["target"]).square().mean()


def td_loss_backward(policy: QNetwork, chain: Chain, batch: Any) -> Tensor:
    """What :func:`td_loss` gives; the gradients of its network are in place afterwards.

    ``taken`` in the batch is (B, A): 1 for the action, 0 for the others.
    """
    error = (chain.forward(policy.encoder(batch["obs"])) - batch["target"].unsqueeze(1)).mul_(batch["taken"])
    chain.backward(error / len(error))
    return error.square().sum() / (2 * len(error))
