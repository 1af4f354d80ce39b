"""DQN, and each of the improvements that make it Rainbow (Hessel et al. 2018, arXiv:1710.02298) as an option."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ActOut, Agent, Metrics
from rltrain.agents.dqn.config import DQNConfig
from rltrain.agents.dqn.loss import huber_loss, td_loss, td_loss_backward, td_target
from rltrain.agents.parts.actors import GreedyActor
from rltrain.agents.parts.exploration import EpsilonGreedy, epsilon_at
from rltrain.agents.parts.optim import FlatAdam, lay_flat
from rltrain.agents.parts.q_network import QNetwork, at_action
from rltrain.agents.parts.replay import Batch, PrioritizedReplay, Replay
from rltrain.agents.parts.rollout import minibatches
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, generator_state, make_generator, seeded, set_generator_state
from rltrain.schedules import ramp, value_at
from rltrain.vec import VecStep

AT_ONCE = 16_384  # transitions whose targets are computed in one pass


class DQN(Agent):
    """Deep Q-learning. The replay, the exploration and the updates stay on the device.

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

    config: DQNConfig
    compiled_methods = ("_choose", "_loss", "_target")
    graph_methods: ClassVar = {"_choose": False, "_target": False, "_update": True}

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
        self.horizon = config.train_freq
        self.log_interval = max(1, 1000 // (self.horizon * num_envs))
        with seeded(derive_seed(seed, "weights")):
            self.policy = QNetwork(
                observation_space,
                action_space,
                config.policy_kwargs,
                dueling=config.dueling,
                n_quantiles=config.n_quantiles if config.distributional else 1,
                noisy=config.noisy,
            ).to(self.device)
        self.target = copy.deepcopy(self.policy).requires_grad_(False)
        self.target_flat = lay_flat(list(self.target.parameters()))
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=config.max_grad_norm)
        self.chain = self.policy.chain()
        self.rng = make_generator(self.device, derive_seed(seed, "agent"))
        self.explore = EpsilonGreedy(self.horizon, num_envs, self.policy.n_actions, self.device, self.rng)
        self.replay = self._make_replay()
        self.first_action = int(getattr(action_space, "start", 0))
        self.actor = GreedyActor(self.policy, config.exploration_final_eps, self.first_action)
        self.steps = 0  # environment steps, over all environments
        self.first_step = 0  # the one that the replay starts with
        self.n_updates = 0

    def _make_replay(self) -> Replay:
        config = self.config
        options: dict[str, Any] = {"gamma": config.gamma, "n_steps": config.n_steps}
        if config.prioritized_replay:
            return PrioritizedReplay(
                config.buffer_size, self.num_envs, self.device, alpha=config.priority_alpha, **options
            )
        return Replay(config.buffer_size, self.num_envs, self.device, **options)

    def use_bfloat16(self) -> None:
        """Lets the networks multiply in bfloat16; gradients come from autograd then."""
        self.chain = None
        for network in (self.policy, self.target):
            network.use_bfloat16(self.device)

    def compile(self, *args: Any, **options: Any) -> None:
        """As of every agent.

        Raises:
            ConfigError: Layers are noisy.
        """
        if self.config.noisy:
            raise ConfigError(
                "Noisy layers draw from a generator of the agent's own, which torch.compile cannot do.",
                "Leave out --compile or --agent.noisy.",
            )
        super().compile(*args, **options)

    def check(self) -> None:
        """Warns of hyperparameters that fit together badly."""
        config = self.config
        if config.target_update_interval < self.horizon * self.num_envs:
            warnings.warn(
                f"target_update_interval={config.target_update_interval} is less than the {self.horizon} steps x "
                f"{self.num_envs} environments between two updates: the target network follows with every one.",
                stacklevel=2,
            )

    def memory(self) -> int:
        """Bytes of the replay."""
        return self.replay.memory(self.observation_space)

    @property
    def epsilon(self) -> float:
        """The chance of a random action."""
        if self.steps < self.config.learning_starts:
            return 1.0
        return epsilon_at(self.config, self.progress_remaining)

    @torch.no_grad()
    def act(self, obs: Observation, state: Tensor | None = None) -> ActOut:
        """Epsilon-greedy actions (N,); stores the observation."""
        self.replay.begin(obs)
        with self.policy.noise(self.rng):
            self.action = self._choose(obs, self.scalar(self.epsilon), self.explore.chance())
        return ActOut(self.action + self.first_action if self.first_action else self.action)

    def _choose(self, obs: Observation, epsilon: float | Tensor, chance: Tensor) -> Tensor:
        """Actions (N,), counted from 0."""
        return self.explore.choose(self.policy.values(obs, self.chain), obs, epsilon, chance)

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``."""
        self.replay.add(self.action, step)
        self.steps += self.num_envs

    def learn(self) -> Metrics:
        """Takes ``gradient_steps`` on minibatches from the replay; metrics are means over them."""
        config = self.config
        metrics: Metrics = {"rollout/exploration_rate": self.epsilon}
        self._update_target()
        if self.steps - self.first_step <= config.learning_starts:
            return metrics
        steps = self.horizon * self.num_envs * self.ranks
        number = steps if config.gradient_steps == -1 else config.gradient_steps
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        step_size = self.scalar(learning_rate)
        losses, errors, shared, norms = [], [], [], []
        for batch in self._minibatches(number):
            loss, error, norm = self._update(batch, step_size)
            norms.append(norm)
            if loss is None:
                errors.append(error)
                shared.append(batch["share"])
            else:
                losses.append(loss)
            if isinstance(self.replay, PrioritizedReplay):
                taken = error if self.chain is None else error.gather(1, batch["action"].unsqueeze(1)).squeeze(1)
                self.replay.update(batch["place"], taken)
        loss = huber_loss(torch.stack(errors), torch.stack(shared)) if errors else torch.stack(losses)
        self.n_updates += number
        return metrics | {
            "train/loss": loss.mean(),
            "train/grad_norm": torch.stack(norms).mean(),
            "train/q_target": batch["target"].mean(),  # of the last one
            "train/learning_rate": learning_rate,
            "train/n_updates": self.n_updates,
        }

    def _update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """A step on a minibatch: the loss unless it is to be had from the errors, the errors, the gradient's norm."""
        with self.policy.noise(self.rng):
            loss, error = self._loss(batch)
        norm = self.optimizer.step(loss, learning_rate, reduce=self.reduce)
        return None if loss is None else loss.detach(), error, norm

    def _loss(self, batch: dict[str, Any]) -> tuple[Tensor | None, Tensor]:
        """The loss, None along a chain, where its gradients are in place already; and the errors."""
        if self.chain is None:
            return td_loss(self.policy, batch)
        return None, td_loss_backward(self.policy, self.chain, batch)

    def _target(self, batch: Batch) -> Tensor:
        """What the network should say of transitions."""
        return td_target(batch, self.target, self.policy if self.config.double_q else None)

    def _update_target(self) -> None:
        """Moves the target network, once for every ``target_update_interval`` that passed since the last update.

        The network has not changed in between, so that several moves are one of a larger share.
        """
        interval = self.config.target_update_interval
        passed = self.steps // interval - (self.steps - self.horizon * self.num_envs) // interval
        if passed:
            share = 1.0 - (1.0 - self.config.tau) ** passed
            self.target_flat.lerp_(self.optimizer.flat.detach(), share)

    def _minibatches(self, number: int) -> Iterator[dict[str, Any]]:
        """Minibatches with their targets.

        The target network stands still during an update. Where targets depend on it alone, they are computed for many
        minibatches in one pass.
        """
        config, size = self.config, self.config.batch_size
        follows = isinstance(self.replay, PrioritizedReplay) or config.double_q or config.noisy
        most = 1 if follows else max(1, AT_ONCE // size)
        for first in range(0, number, most):
            yield from minibatches(self._labelled(min(most, number - first) * size), size)

    def _labelled(self, size: int) -> dict[str, Any]:
        """Transitions from the replay, and what the network should say of them."""
        config = self.config
        if isinstance(self.replay, PrioritizedReplay):
            beta = ramp(config.priority_beta, 1.0, 1.0, self.progress_remaining)
            batch = self.replay.sample(size, self.rng, beta)
        else:
            batch = self.replay.sample(size, self.rng)
        with self.policy.noise(self.rng), self.target.noise(self.rng):
            target = self._target(batch)
        labelled = {"obs": batch.obs, "action": batch.action, "target": target, "place": batch.place}
        if self.chain is None:
            return {**labelled, "weight": batch.weight}
        share = batch.weight / self.config.batch_size
        return {**labelled, "share": at_action(share, batch.action, self.policy.n_actions)}

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator, counters and, unless that is turned off, the replay."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rng": generator_state(self.rng),
            "steps": self.steps,
            "first_step": self.first_step,
            "n_updates": self.n_updates,
            "replay": self.replay.state_dict() if self.config.save_replay_buffer else {},
        }

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        set_generator_state(self.rng, state["rng"])
        self.steps = state["steps"]
        self.n_updates = state["n_updates"]
        if state["replay"]:
            self.first_step = state["first_step"]
            self.replay.load_state_dict(state["replay"])
        else:
            self.first_step = self.steps
            warnings.warn(
                "Not bit for bit: the checkpoint holds no transitions (save_replay_buffer is off). Learning goes on "
                f"after {self.config.learning_starts:,} environment steps (learning_starts).",
                stacklevel=2,
            )
