"""Proximal Policy Optimization (Schulman et al. 2017, arXiv:1707.06347)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import Actor, ActOut, Metrics, State
from rltrain.agents.parts.actors import DistributionActor
from rltrain.agents.parts.networks import in_bfloat16
from rltrain.agents.parts.on_policy import OnPolicyAgent
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.returns import generalized_advantage
from rltrain.agents.parts.rollout import in_chunks
from rltrain.agents.ppo.config import PPOConfig
from rltrain.agents.ppo.loss import Rows, Terms, approx_kl, metrics_of, normalized_across, ppo_loss
from rltrain.agents.ppo.policy import make_policy
from rltrain.env import Observation
from rltrain.normalize import RewardNormalizer
from rltrain.rng import derive_seed, seeded
from rltrain.schedules import value_at
from rltrain.spaces import bytes_of


class PPO(OnPolicyAgent):
    """PPO with clipping. Rollouts, statistics and updates stay on the device.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the actions and the minibatches.

    Raises:
        ConfigError: PPO has no network or distribution for one of the spaces.
    """

    config: PPOConfig
    teacher_coef: float | str = 0.0
    compiled_methods = ("_choose", "_loss")
    graph_methods: ClassVar = {"_choose": False, "prepare": False, "_update": True}

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: PPOConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        with seeded(derive_seed(seed, "weights")):
            self.policy = make_policy(observation_space, action_space, config.policy_kwargs).to(self.device)
        self.recurrent = self.policy.memory is not None
        self.distribution = self.policy.distribution
        self.actor: DistributionActor = DistributionActor(
            self.distribution, self.obs_normalizer, **self.policy.actor_layers()
        )
        self.reward_normalizer = (
            RewardNormalizer(num_envs, config.gamma, device=self.device) if config.normalize_reward else None
        )
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-5, max_grad_norm=config.max_grad_norm)
        self.loss_config = config

    def learn_from(self, teacher: Actor, coef: float | str) -> None:
        """Adds the cross-entropy between a teacher's actions and the policy to the loss, with a weight.

        Schmitt et al. (2018), "Kickstarting Deep Reinforcement Learning", arXiv:1803.03835, equation 2, from one action
        of the teacher for each observation.
        """
        self.teacher, self.teacher_coef = teacher, coef

    def use_bfloat16(self) -> None:
        """Lets both networks multiply in bfloat16."""
        self.policy.use_bfloat16(self.device)
        self.actor.step = in_bfloat16(self.actor.step, self.device)  # type: ignore[method-assign]

    def memory(self) -> int:
        """Bytes of the rollout, of its shuffled copy, and of the values computed for all of it."""
        each = 3 * bytes_of(self.observation_space) + 16 * self.distribution.size + 64
        return self.horizon * self.num_envs * each + self.bytes_of_states()

    @torch.no_grad()
    def act(self, obs: Observation, state: State = None) -> ActOut:
        """Samples actions (N, *A); stores the observations, distribution parameters, raw actions and next states."""
        state = self.state_before(state)
        if self.rollout.step == 0:
            self.noise = self._noise()
        params, raw, action, state = self._choose(obs, self.noise[self.rollout.step], state)
        self.rollout.store(obs=obs, params=params, raw=raw, state=state)
        return ActOut(action, state)

    def _choose(self, obs: Observation, noise: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor, State]:
        """Distribution parameters (N, P), raw actions, actions (N, *A), and the state after the observations."""
        params, state = self.policy.step(self._normalized(obs), state)
        raw = self.distribution.sample(params, noise)
        return params, raw, self.distribution.to_env(raw), state

    def learn(self) -> Metrics:
        """Runs ``n_epochs`` over the rollout; metrics are means over the minibatches that took a step."""
        config = self.config
        self._keep_policy(self.n_updates < config.value_warmup * config.n_epochs)
        batch = {**self.prepare()}  # a copy, since a recorded graph keeps its own dict
        value = batch["value"] if config.clip_range_vf is not None else batch.pop("value")
        teacher_coef, agreement = 0.0, None
        if self.teacher is not None:
            teacher_coef = value_at(self.teacher_coef, self.progress_remaining)
            batch["taught"], agreement = self._taught(self.teacher)
        learning_rate = value_at(config.learning_rate, self.progress_remaining)
        clip_range = value_at(config.clip_range, self.progress_remaining)
        clip_range_vf = (
            None if config.clip_range_vf is None else value_at(config.clip_range_vf, self.progress_remaining)
        )

        scheduled = (
            self.scalar(learning_rate),
            self.scalar(clip_range),
            None if clip_range_vf is None else self.scalar(clip_range_vf),
            self.scalar(teacher_coef),
        )
        stopped = torch.zeros(self.stack, device=self.device)  # 1 after target_kl is exceeded: no more steps are taken
        terms, norms, stops = Terms(scheduled[1]), [], []
        across = self.ranks > 1 and config.normalize_advantage  # this rank has only a part of each minibatch
        if across and self.loss_config is config:
            self.loss_config = config.model_copy(update={"normalize_advantage": False})
        for _ in range(config.n_epochs):
            minibatches = self._minibatches(batch)
            for minibatch in normalized_across(minibatches, self.reduce, self.ranks) if across else minibatches:
                rows, norm, stopped = self._update(minibatch, stopped, *scheduled)
                terms.add(rows)
                norms.append(norm)
                stops.append(stopped)
        self.n_updates += config.n_epochs
        self.learned_from = {"value": value, **{name: batch[name] for name in ("raw", "advantage", "returns")}}

        skipped = torch.stack(stops) > 0
        table = torch.cat([terms.result(), torch.stack(norms).unsqueeze(0)])
        means = table.masked_fill(skipped, 0.0).sum(1) / (~skipped).sum(0).clamp(min=1)
        results: Metrics = {**metrics_of(means[:-1], config), "train/grad_norm": means[-1]}
        results["train/explained_variance"] = explained_variance(value, batch["returns"])
        results["train/learning_rate"] = learning_rate
        results["train/clip_range"] = clip_range
        results["train/n_updates"] = self.n_updates
        if agreement is not None:
            results |= {"train/teacher_loss": agreement, "train/teacher_coef": teacher_coef}
        if clip_range_vf is not None:
            results["train/clip_range_vf"] = clip_range_vf
        log_std = getattr(self.distribution, "log_std", None)
        if log_std is not None:
            results["train/std"] = log_std.detach().exp().mean(-1)

        self._update_obs_normalizer()
        self.rollout.clear()
        return results

    def _update(
        self,
        minibatch: dict[str, Any],
        stopped: Tensor,
        learning_rate: float | Tensor,
        clip_range: float | Tensor,
        clip_range_vf: float | Tensor | None,
        teacher_coef: float | Tensor,
    ) -> tuple[Rows, Tensor, Tensor]:
        """Takes a step on a minibatch; returns its per-row terms, the norm of the gradient and the new ``stopped``."""
        loss, rows = self._loss(minibatch, clip_range, clip_range_vf, teacher_coef)
        skip = None
        if self.config.target_kl is not None:
            over = self.reduce(approx_kl(rows.log_ratio)) > 1.5 * self.config.target_kl
            skip = stopped = torch.maximum(stopped, over.to(stopped.dtype))
        return rows, self.optimizer.step(loss, learning_rate, reduce=self.reduce, skip=skip), stopped

    def _loss(
        self,
        minibatch: dict[str, Any],
        clip_range: float | Tensor,
        clip_range_vf: float | Tensor | None,
        teacher_coef: float | Tensor = 0.0,
    ) -> tuple[Tensor | None, Rows]:
        """See :func:`~rltrain.agents.ppo.loss.ppo_loss`."""
        return ppo_loss(self.policy, minibatch, self.loss_config, clip_range, clip_range_vf, teacher_coef)

    def _keep_policy(self, kept: bool) -> None:
        """Holds the parameters that acting needs, or lets them take steps again."""
        if not kept:
            self.optimizer.release()
        elif self.optimizer.held is None:
            acting = {id(parameter) for parameter in self.actor.parameters()}
            self.optimizer.hold(i for i, each in enumerate(self.optimizer.parameters) if id(each) in acting)

    @torch.no_grad()
    def _taught(self, teacher: Actor) -> tuple[Tensor, Tensor]:
        """The teacher's raw actions for a rollout (T * N, ...), and the policy's cross-entropy with them, 0-d."""
        obs, params = self._flat(self.rollout["obs"]), self._flat(self.rollout["params"])
        action = teacher(obs, deterministic=False, rng=self.rng).action
        raw = self.distribution.from_env(action)
        return raw, -self.distribution.log_prob_entropy(params, raw)[0].mean()

    @torch.no_grad()
    def prepare(self) -> dict[str, Any]:
        """The rollout as one flat batch, with values, log-probabilities and advantages in one pass each.

        The policy has not changed since it acted, so these are the values it would have computed then.
        """
        rollout, config = self.rollout, self.config
        rows = max(config.batch_size, 16_384)
        obs, state = self._flat(self._normalized(rollout["obs"])), self._flat(rollout["state"])
        if state is None:
            value = in_chunks(self.policy.value, obs, rows)
        else:
            value = in_chunks(self.policy.value_after, state, rows)
        following = self._flat(self._normalized(rollout["final_obs"])), state
        next_value = in_chunks(lambda pair: self.policy.value(*pair), following, rows)
        raw = self._flat(rollout["raw"])
        log_prob, _ = self.distribution.log_prob_entropy(self._flat(rollout["params"]), raw)
        reward, terminated, truncated = rollout["reward"], rollout["terminated"], rollout["truncated"]
        advantage = generalized_advantage(
            self._scaled(reward, terminated, truncated),
            self._by_step(value),
            self._by_step(next_value),
            terminated,
            truncated,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
        )
        advantage = self._flat(advantage)
        return {
            "obs": obs,
            "raw": raw,
            "log_prob": log_prob,
            "value": value,
            "advantage": advantage,
            "returns": advantage + value,
        }

    # Overridden where several agents learn as one, see stacked.py.

    def _noise(self) -> Tensor:
        """Noise for the actions of a rollout."""
        return self.distribution.noise((self.horizon, self.num_envs), self.device, self.rng)

    def _scaled(self, reward: Tensor, terminated: Tensor, truncated: Tensor) -> Tensor:
        """Rewards (T, N) of a rollout, scaled for learning."""
        return reward if self.reward_normalizer is None else self.reward_normalizer(reward, terminated | truncated)

    def signs(self) -> Metrics:
        """How far the values of states differ, beside what they are to predict; NaN where that does not differ."""
        last = self.last_batch()
        if not last:
            return {}
        spread = last["returns"].std(correction=0)
        return {"train/value_spread": (last["value"].std(correction=0) / spread).masked_fill(spread == 0, torch.nan)}

    @torch.no_grad()
    def distributions(self) -> dict[str, Tensor]:
        """Actions and advantages."""
        last = self.last_batch()
        return {"actions": self.distribution.to_env(last["raw"]), "advantages": last["advantage"]} if last else {}

    def training_state(self) -> dict[str, Any]:
        """Optimizer, generator, counter and the running returns of the reward statistics."""
        state = super().training_state()
        return (
            state if self.reward_normalizer is None else {**state, "discounted_returns": self.reward_normalizer.returns}
        )

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
        super().load_training_state(state)
        if self.reward_normalizer is not None:
            self.reward_normalizer.returns.copy_(state["discounted_returns"])


def explained_variance(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - Var(target - predicted) / Var(target), for tensors (..., B).

    1 is perfect, 0 is no better than the mean. It is NaN if the target has no variance.
    """
    variance = target.var(-1, correction=0)
    return (1.0 - (target - predicted).var(-1, correction=0) / variance).masked_fill(variance == 0, torch.nan)
