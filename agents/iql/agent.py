"""Implicit Q-learning (Kostrikov et al. 2021, arXiv:2110.06169) for all kinds of actions, and AWAC as an option."""

from __future__ import annotations

from typing import ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.iql.config import IQLConfig
from rltrain.agents.iql.loss import advantage_weights, bootstrapped, critic_loss, expectile_loss
from rltrain.agents.parts.actors import DistributionActor, keep_some_noise, make_actor
from rltrain.agents.parts.critics import Critics, action_encoder
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.transitions import TransitionAgent
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, seeded


class IQL(TransitionAgent):
    """Learns values of the actions in a dataset without ever asking for those of others, and a policy from them.

    A value network learns an expectile of the critics' values of the actions in the data; critics learn rewards plus
    that value of what follows; the policy clones the actions, those with an advantage more. The order of the three
    steps, and which of them see the target critics, are those of the authors' code.

    With ``advantage: policy`` there is no value network: critics learn with the policy's own action in what follows,
    and an action is compared with one of the policy, which is AWAC (Nair et al. 2020, arXiv:2006.09359, equations 4 and
    13).

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N; not used.
        config: Hyperparameters.
        device: Where everything lives.
        seed: Seed of the initial weights, the order of the data and, for AWAC, the policy's actions.

    Raises:
        ConfigError: There is no network or distribution for one of the spaces.
    """

    config: IQLConfig
    descriptions: ClassVar[dict[str, str]] = {
        "train/advantage": "Mean advantage of the actions in the data, in units of scaled rewards.",
        "train/weight": "Mean weight of the actions in the policy's loss; near `max_weight`, beta is too large.",
    }

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: IQLConfig,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(observation_space, action_space, num_envs, config, device=device, seed=seed)
        kwargs, widths = config.policy_kwargs, config.policy_kwargs.net_arch.qf
        with seeded(derive_seed(seed, "weights")):
            actor = make_actor(observation_space, action_space, kwargs, kwargs.net_arch.pi, self.obs_normalizer)
            numbers = action_encoder(action_space)
            critic = Critics(
                observation_space,
                numbers.size,
                kwargs,
                widths,
                n_critics=kwargs.n_critics,
                layer_norm=kwargs.layer_norm,
            )
            value = Critics(observation_space, 0, kwargs, widths, layer_norm=kwargs.layer_norm)
        self.actor: DistributionActor = actor.to(self.device)
        self.distribution = actor.distribution
        self.numbers = numbers.to(self.device)
        self.critic = critic.to(self.device)
        self.policy_optimizer = self._adam(self.actor)
        self.critic_optimizer = self._adam(self.critic)
        self.critic_target = self.make_target(self.critic, self.critic_optimizer)
        if config.advantage == "expectile":
            self.value = value.to(self.device)
            self.value_optimizer = self._adam(self.value)

    def check(self) -> None:
        """Refuses options that would have no effect.

        Raises:
            ConfigError: There is one.
        """
        super().check()
        if self.config.advantage == "policy" and "expectile" in self.config.model_fields_set:
            raise ConfigError("expectile is for a value network, and advantage=policy has none.", "Leave it out.")

    def _adam(self, network: nn.Module) -> FlatAdam:
        return FlatAdam(network.parameters(), eps=1e-8, max_grad_norm=self.config.max_grad_norm)

    def update(self, batch: Batch, learning_rate: float) -> dict[str, Tensor]:
        """Takes a step of every network."""
        scale = self.obs_normalizer or (lambda obs: obs)
        obs, next_obs, action = scale(batch.obs), scale(batch.next_obs), self.numbers(batch.action)
        if self.config.advantage == "expectile":
            metrics, advantage, follows = self._learn_value(obs, next_obs, action, learning_rate)
            metrics |= self._learn_critics(batch, obs, action, follows, learning_rate)
        else:
            with torch.no_grad():
                follows = self.critic_target(next_obs, self.numbers(self._acted(batch.next_obs))).amin(0)
            metrics = self._learn_critics(batch, obs, action, follows, learning_rate)
            with torch.no_grad():
                taken, own = (self.critic(obs, each).amin(0) for each in (action, self.numbers(self._acted(batch.obs))))
                advantage = taken - own
        return metrics | self._learn_policy(batch, advantage, learning_rate)

    def _learn_value(
        self, obs: Observation, next_obs: Observation, action: Tensor, learning_rate: float
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """A step of the value; metrics, the advantages of the actions and the value of what follows, both after it."""
        with torch.no_grad():
            taken = self.critic_target(obs, action).amin(0)
        loss = expectile_loss(taken - self.value(obs)[0], self.config.expectile).mean()
        norm = self.value_optimizer.step(loss, learning_rate, reduce=self.reduce)
        with torch.no_grad():
            value, follows = self.value(obs)[0], self.value(next_obs)[0]
        metrics = {"train/value_loss": loss.detach(), "train/value": value.mean(), "train/value_grad_norm": norm}
        return metrics, taken - value, follows

    def _learn_critics(
        self, batch: Batch, obs: Observation, action: Tensor, follows: Tensor, learning_rate: float
    ) -> dict[str, Tensor]:
        target = bootstrapped(batch.reward, batch.discount, follows, batch.terminated)
        predicted = self.critic(obs, action)
        loss = critic_loss(predicted, target)
        norm = self.critic_optimizer.step(loss, learning_rate, reduce=self.reduce)
        return {
            "train/critic_loss": loss.detach(),
            "train/q_value": predicted.detach().mean(),
            "train/critic_grad_norm": norm,
        }

    def _learn_policy(self, batch: Batch, advantage: Tensor, learning_rate: float) -> dict[str, Tensor]:
        weight = advantage_weights(advantage, self.config.beta, self.config.max_weight)
        raw = self.distribution.from_env(batch.action)
        log_prob, entropy = self.distribution.log_prob_entropy(self.actor.params(batch.obs), raw)
        loss = -(weight * log_prob).mean()
        norm = self.policy_optimizer.step(loss, learning_rate, reduce=self.reduce)
        keep_some_noise(self.distribution)
        return {
            "train/actor_loss": loss.detach(),
            "train/entropy": entropy.detach().mean(),
            "train/advantage": advantage.mean(),
            "train/weight": weight.mean(),
            "train/actor_grad_norm": norm,
        }

    def _acted(self, obs: Observation) -> Tensor:
        """Actions (B, *A) that the policy samples."""
        return self.actor(obs, deterministic=False, rng=self.rng).action
