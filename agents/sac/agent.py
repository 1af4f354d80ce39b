"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import ACTOR, Actor, ActOut, Metrics
from rltrain.agents.parts.critics import Critics, hidden_layers, scale_back
from rltrain.agents.parts.networks import in_bfloat16
from rltrain.agents.parts.off_policy import OffPolicyAgent, Update
from rltrain.agents.parts.optim import FlatAdam, grad_of
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.rollout import Rollout, flat
from rltrain.agents.sac.config import SACConfig, initial_ent_coef
from rltrain.agents.sac.loss import critic_loss, policy_loss, soft_target
from rltrain.agents.sac.policy import SquashedActor, from_squashed
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.normalize import ObservationNormalizer, RewardNormalizer
from rltrain.rng import derive_seed, seeded
from rltrain.schedules import value_at
from rltrain.vec import VecStep
from rltrain.wrappers.actions import has_bounds


class SAC(OffPolicyAgent):
    """Soft actor-critic. The replay, the exploration and the updates stay on the device.

    Actions are in [-1, 1] within the agent, its replay and its critics, and scaled to the bounds of the space for the
    environment.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action, a Box of floats with finite bounds.
        num_envs: N.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the exploration and the minibatches.

    Raises:
        ConfigError: The action space is another one, no network fits the observation space, or an update has no step
            of the policy.
    """

    config: SACConfig
    teacher_coef: float | str = 0.0
    fixed_ent_coef: Tensor  # (1,), unless it is learned
    compiled_methods = ("_choose", "_critic_loss", "_policy_loss")
    graph_methods: ClassVar = {"_choose": False, "_learn_critics": True, "_learn_policy": True}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: SACConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        box = bounded_box(action_space)
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        if config.gradient_steps == -1 and self.horizon * num_envs % config.policy_delay:
            raise ConfigError(
                f"An update has {self.horizon * num_envs} gradient steps, which is no multiple of "
                f"policy_delay={config.policy_delay}.",
                "Choose another --agent.policy-delay, or --agent.gradient-steps.",
            )
        kwargs, n_quantiles = config.policy_kwargs, config.n_quantiles if config.distributional else 1
        normalizer = ObservationNormalizer(observation_space, device=self.device) if config.normalize_obs else None
        with seeded(derive_seed(seed, "weights")):
            self.actor: SquashedActor = SquashedActor(
                observation_space, box, kwargs, use_sde=config.use_sde, obs_normalizer=normalizer
            )
            self.critic = Critics(
                observation_space,
                self.actor.size,
                kwargs,
                kwargs.net_arch.qf,
                n_critics=kwargs.n_critics,
                n_quantiles=n_quantiles,
                layer_norm=kwargs.layer_norm,
            )
        self.reward_normalizer = (
            RewardNormalizer(num_envs, config.gamma, device=self.device) if config.normalize_reward else None
        )
        learned = isinstance(config.ent_coef, str)
        start = torch.tensor([initial_ent_coef(config.ent_coef)], dtype=torch.float32)
        self.log_ent_coef = nn.Parameter(start.log()) if learned else None
        self.register_buffer("fixed_ent_coef", None if learned else start, persistent=False)
        auto = config.target_entropy == "auto"
        self.target_entropy = -float(self.actor.size) if auto else float(config.target_entropy)
        self.to(self.device)
        self.policy_optimizer = FlatAdam(self.actor.parameters(), eps=1e-8, max_grad_norm=None)
        self.critic_optimizer = FlatAdam(self.critic.parameters(), eps=1e-8, max_grad_norm=None)
        if self.log_ent_coef is not None:
            self.ent_coef_optimizer = FlatAdam([self.log_ent_coef], eps=1e-8, max_grad_norm=None)
        scaled = kwargs.weight_norm  # layers that are scaled back after each step
        self.critic_layers = hidden_layers(self.critic) if scaled else []
        self.policy_layers = hidden_layers(self.actor.body) if scaled else []
        scale_back([*self.critic_layers, *self.policy_layers])
        self.critic_target = self.make_target(self.critic, self.critic_optimizer)
        scaling = config.normalize_obs or config.normalize_reward
        self.rollout = Rollout(self.horizon) if scaling else None  # what the statistics take in

    def from_policy(self, state: Mapping[str, Tensor], config: Callable[[], Any]) -> dict[str, Tensor]:
        """Takes over a squashed Gaussian with PPO's layers, such as a clone's, whose deviation becomes a bias.

        Raises:
            ConfigError: The policy does not squash its actions, so its layers say other actions here.
        """
        if f"{ACTOR}action_head.weight" not in state or f"{ACTOR}distribution.log_std" not in state:
            return dict(state)
        if self.config.use_sde:
            what = "SAC's policy has noise that depends on the state, and that of the run to start from has not."
            raise ConfigError(what, "Leave --agent.use-sde out.")
        if not getattr(config().policy_kwargs, "squash_output", False):
            what = "SAC's policy squashes its actions by tanh, and that of the run to start from does not."
            raise ConfigError(what, "Train the other one with --agent.policy-kwargs.squash-output true.")
        return from_squashed(state)

    def learn_from(self, teacher: Actor, coef: float | str) -> None:
        """Adds the cross-entropy between a teacher's actions and the policy to the policy's loss, with a weight.

        Schmitt et al. (2018), arXiv:1803.03835, equation 2, from one action of the teacher for each transition drawn.
        """
        self.teacher, self.teacher_coef = teacher, coef

    def use_bfloat16(self) -> None:
        """Lets the networks multiply in bfloat16."""
        self.actor.gaussian = in_bfloat16(self.actor.gaussian, self.device)  # type: ignore[method-assign]
        for network in (self.critic, self.critic_target):
            network.forward = in_bfloat16(network.forward, self.device)  # type: ignore[method-assign]

    # Acting

    def sample_actions(self, obs: Observation) -> Tensor:
        """Actions (N, A) in [-1, 1]."""
        if self.rollout is not None:
            self.rollout.store(obs=obs)
        if self.warming_up and not (self.config.use_sde and self.config.use_sde_at_warmup):
            return torch.rand(self.num_envs, self.actor.size, device=self.device, generator=self.rng) * 2.0 - 1.0
        return self._choose(obs, self._noise())

    def _noise(self) -> Tensor:
        """Noise for the next actions: (N, A), or matrices (N, F, A) that stay for a while."""
        if not self.config.use_sde:
            return torch.randn(self.num_envs, self.actor.size, device=self.device, generator=self.rng)
        step, every = self.steps // self.num_envs % self.horizon, self.config.sde_sample_freq
        if step == 0 or (every > 0 and step % every == 0) or not hasattr(self, "matrices"):
            self.matrices = self._draw_matrices(self.num_envs)
        return self.matrices

    def _draw_matrices(self, n: int) -> Tensor:
        shape = (n, self.actor.features, self.actor.size)
        return torch.randn(shape, device=self.device, generator=self.rng)

    def _choose(self, obs: Observation, noise: Tensor) -> Tensor:
        return self.actor.explore(self.actor.normalized(obs), noise)

    def to_env(self, action: Tensor) -> Tensor:
        """Actions (N, *A) between the bounds of the space."""
        return self.actor.to_env(action)

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``."""
        super().record(out, step)
        if self.rollout is not None:
            self.rollout.store(reward=step.reward, done=step.terminated | step.truncated)
            self.rollout.advance()

    def from_env(self, action: Tensor) -> Tensor:
        """Actions (N, A) in [-1, 1]."""
        return self.actor.from_env(action)

    # Learning

    def learn(self) -> Metrics:
        """Learns like every agent with a replay, after the statistics have taken in what was collected."""
        if self.rollout is not None:
            if self.actor.obs_normalizer is not None:
                self.actor.obs_normalizer.update(flat(self.rollout["obs"]))
            if self.reward_normalizer is not None:
                self.reward_normalizer(self.rollout["reward"], self.rollout["done"])
            self.rollout.clear()
        metrics = super().learn()
        if self.teacher is not None and metrics:
            metrics["train/teacher_coef"] = value_at(self.teacher_coef, self.progress_remaining)
        return metrics

    @torch.no_grad()
    def prepare(self, batch: Batch) -> dict[str, Any]:
        """Transitions, scaled, with the noise of the actions in both losses.

        Noise that depends on the state is drawn in :meth:`update`: it is the same for all rows of a minibatch.
        """
        rows = {name: getattr(batch, name) for name in ("action", "discount", "terminated", "weight")}
        reward = batch.reward
        if self.reward_normalizer is not None:  # a sum of n rewards may be n times as large
            reward = self.reward_normalizer.scaled(reward, self.config.n_steps)
        if not self.config.use_sde:
            noise = torch.randn(2, len(reward), self.actor.size, device=self.device, generator=self.rng)
            rows["noise"], rows["next_noise"] = noise.unbind()
        if self.teacher is not None:
            action = self.teacher(batch.obs, deterministic=False, rng=self.rng).action
            rows["taught"] = self.actor.from_env(action)
        scaled = self.actor.normalized
        return {"obs": scaled(batch.obs), "next_obs": scaled(batch.next_obs), "reward": reward, **rows}

    def update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> Update:
        """Takes a step of the critics, and with every ``policy_delay`` of them one of the policy and the weight."""
        if self.config.use_sde:
            noise = self._draw_matrices(1)
            batch = {**batch, "noise": noise, "next_noise": noise}
        metrics = self._learn_critics(batch, learning_rate)
        if self.n_updates % self.config.policy_delay == 0:
            taught = value_at(self.teacher_coef, self.progress_remaining) if self.teacher is not None else 0.0
            step_size = 0.0 * learning_rate if self.n_updates <= self.config.value_warmup else learning_rate
            metrics = metrics | self._learn_policy(batch, step_size, self.scalar(taught))
        return Update(metrics)

    def _learn_critics(self, batch: dict[str, Any], learning_rate: float | Tensor) -> dict[str, Tensor]:
        loss, value = self._critic_loss(batch)
        norm = self.critic_optimizer.step(loss, learning_rate, reduce=self.reduce)
        scale_back(self.critic_layers)
        return {"train/critic_loss": loss.detach(), "train/q_value": value, "train/critic_grad_norm": norm}

    def _critic_loss(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The loss of the critics, and the mean of their values."""
        target = soft_target(self.actor, self.critic_target, batch, self.ent_coef())
        predicted = self.critic(batch["obs"], batch["action"])
        return critic_loss(predicted, target, batch["weight"]), predicted.detach().mean()

    def _learn_policy(
        self, batch: dict[str, Any], learning_rate: float | Tensor, teacher_coef: float | Tensor = 0.0
    ) -> dict[str, Tensor]:
        loss, ent_coef, log_prob, excess, imitation = self._policy_loss(batch, teacher_coef)
        norm = self.policy_optimizer.step(loss, learning_rate, reduce=self.reduce)
        scale_back(self.policy_layers)
        metrics = {
            "train/actor_loss": loss.detach(),
            "train/actor_grad_norm": norm,
            "train/entropy": -log_prob,
            "train/ent_coef": ent_coef,
        }
        if imitation is not None:
            metrics["train/teacher_loss"] = imitation.detach()
        if self.log_ent_coef is not None:  # whose loss is -log_ent_coef * excess
            metrics["train/ent_coef_loss"] = -self.log_ent_coef.detach() * excess
            grad_of(self.log_ent_coef).copy_(-excess)
            self.ent_coef_optimizer.step(None, learning_rate, reduce=self.reduce)
        return metrics

    def _policy_loss(
        self, batch: dict[str, Any], teacher_coef: float | Tensor = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """The loss of the policy, the weight of the entropy in it, the mean log-probability, its excess, and imitation.

        The excess is by how much, on average, the log-probability is above minus the target entropy; imitation is the
        cross-entropy with a teacher, None without one.
        """
        ent_coef = self.ent_coef()
        loss, log_prob = policy_loss(self.actor, self.critic, batch, ent_coef)
        excess = ((log_prob + self.target_entropy) * batch["weight"]).mean()
        if "taught" not in batch:
            return loss, ent_coef, log_prob.mean(), excess, None
        imitation = -(self.actor.log_prob(batch["obs"], batch["taught"]) * batch["weight"]).mean()
        return loss + teacher_coef * imitation, ent_coef, log_prob.mean(), excess, imitation

    def ent_coef(self) -> Tensor:
        """The weight of the entropy, (1,), without a gradient."""
        return self.fixed_ent_coef if self.log_ent_coef is None else self.log_ent_coef.detach().exp()

    def values(self, batch: Batch) -> Tensor:
        """What each critic says of the actions that were taken, (C, B)."""
        said = self.critic(self.actor.normalized(batch.obs), batch.action)
        return said if said.dim() == 2 else said.mean(-1)

    def largest_reward(self) -> Tensor:
        """The largest magnitude of a reward that is learned from, 0-d."""
        reward = super().largest_reward()
        return reward if self.reward_normalizer is None else self.reward_normalizer.scaled(reward)

    # Its state

    def training_state(self) -> dict[str, Any]:
        """Optimizers, generator, counters, the replay, and the running returns of the reward statistics."""
        state = super().training_state()
        normalizer = self.reward_normalizer
        return state if normalizer is None else {**state, "discounted_returns": normalizer.returns}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        super().load_training_state(state)
        if self.reward_normalizer is not None:
            self.reward_normalizer.returns.copy_(state["discounted_returns"])


def bounded_box(space: spaces.Space) -> spaces.Box:
    """The action space itself.

    Raises:
        ConfigError: It is not a Box of floats with bounds that mean something.
    """
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
        raise ConfigError(
            f"SAC has no policy for the action space {space}.",
            "Use an environment with a floating-point Box of actions, or train with ppo.",
        )
    if not has_bounds(space):
        raise ConfigError(
            f"SAC cannot squash actions into the unbounded {space}.",
            "Use an environment whose actions have finite bounds, or train with ppo.",
        )
    return space
