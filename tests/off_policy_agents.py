"""Two small agents on the off-policy base: one with real numbers for actions, one with several choices at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor, nn

from rltrain.agent import Actor, ActOut
from rltrain.agents.parts.off_policy import OffPolicyAgent, Update
from rltrain.agents.parts.optim import FlatAdam
from rltrain.agents.parts.replay import Batch
from rltrain.agents.parts.settings import OffPolicyConfig, PrioritizedConfig
from rltrain.config import CountedOverRanks
from rltrain.registry import register_agent
from rltrain.rng import derive_seed, seeded
from rltrain.spaces import random_actions


class DPGConfig(OffPolicyConfig):
    """Hyperparameters of :class:`DPG`."""

    target_update_interval: Annotated[int, Field(ge=1)] = 1
    """Gradient steps between two updates of the target networks."""


class Direct(Actor):
    """Takes the actions that a function of the observations gives.

    Args:
        network: What the function is made of.
        function: From observations to actions; the network itself if left out.
    """

    def __init__(self, network: nn.Module, function: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.network = network
        self.function = function or network.forward

    def choose(self, obs: Any, state: Any, *, deterministic: bool, rng: Any) -> ActOut:
        return ActOut(self.function(obs))


class DPG(OffPolicyAgent):
    """Deterministic policy gradients (Silver et al. 2014) with targets (Lillicrap et al. 2016, arXiv:1509.02971)."""

    def __init__(self, observation_space: Any, action_space: Any, num_envs: int, config: Any, **options: Any) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        inputs, outputs = observation_space.shape[0], action_space.shape[0]
        with seeded(derive_seed(self.seed, "weights")):
            self.policy = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, outputs), nn.Tanh())
            self.critic = nn.Sequential(nn.Linear(inputs + outputs, 16), nn.ReLU(), nn.Linear(16, 1))
        self.to(self.device)
        self.policy_optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=None)
        self.critic_optimizer = FlatAdam(self.critic.parameters(), eps=1e-8, max_grad_norm=10.0)
        self.actor = Direct(self.policy)
        self.policy_target = self.make_target(self.policy, self.policy_optimizer)
        self.critic_target = self.make_target(self.critic, self.critic_optimizer)

    def sample_actions(self, obs: Any) -> Tensor:
        noise = torch.randn(self.num_envs, *self.action_space.shape, generator=self.rng, device=self.device)
        return (noise if self.warming_up else self.policy(obs) + 0.3 * noise).clamp(-1.0, 1.0)

    def update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> Update:
        with torch.no_grad():
            next_obs = batch["next_obs"]
            following = self.critic_target(torch.cat((next_obs, self.policy_target(next_obs)), 1)).squeeze(1)
            target = batch["reward"] + batch["discount"] * following.masked_fill(batch["terminated"], 0.0)
        value = self.critic(torch.cat((batch["obs"], batch["action"]), 1)).squeeze(1)
        loss = ((value - target).square() * batch["weight"]).mean()
        norm = self.critic_optimizer.step(loss, learning_rate, reduce=self.reduce)
        reached = self.critic(torch.cat((batch["obs"], self.policy(batch["obs"])), 1)).squeeze(1)
        self.policy_optimizer.step(-(reached * batch["weight"]).mean(), learning_rate, reduce=self.reduce)
        return Update({"train/loss": loss.detach(), "train/grad_norm": norm})


class BranchesConfig(PrioritizedConfig):
    """Hyperparameters of :class:`Branches`."""

    target_update_interval: Annotated[int, Field(ge=1), CountedOverRanks] = 64
    """Environment steps between two updates of the target network."""


class Branches(OffPolicyAgent):
    """Action values that are sums over several choices (Tavakoli et al. 2018, arXiv:1711.08946), at random by 0.2."""

    targets_follow = "environment steps"

    def __init__(self, observation_space: Any, action_space: Any, num_envs: int, config: Any, **options: Any) -> None:
        super().__init__(observation_space, action_space, num_envs, config, **options)
        binary = isinstance(action_space, spaces.MultiBinary)
        self.sizes = [2] * action_space.shape[0] if binary else action_space.nvec.tolist()
        self.first = torch.as_tensor(0 if binary else action_space.start)
        with seeded(derive_seed(self.seed, "weights")):
            self.policy = nn.Linear(observation_space.shape[0], sum(self.sizes))
        self.optimizer = FlatAdam(self.policy.parameters(), eps=1e-8, max_grad_norm=10.0)
        self.target = self.make_target(self.policy, self.optimizer)
        self.actor = Direct(self.policy, lambda obs: self.best(self.policy, obs))

    def best(self, network: nn.Module, obs: Tensor) -> Tensor:
        return torch.stack([part.argmax(1) for part in network(obs).split(self.sizes, 1)], 1) + self.first

    def value(self, network: nn.Module, obs: Tensor, action: Tensor) -> Tensor:
        parts, index = network(obs).split(self.sizes, 1), (action - self.first).long()
        return sum(part.gather(1, index[:, i : i + 1]).squeeze(1) for i, part in enumerate(parts))

    def sample_actions(self, obs: Any) -> Tensor:
        chance = torch.rand(self.num_envs, 1, generator=self.rng)
        anything = random_actions(self.action_space, self.num_envs, self.device, self.rng)
        return torch.where(chance < (1.0 if self.warming_up else 0.2), anything, self.best(self.policy, obs)).to(
            anything.dtype
        )

    def prepare(self, batch: Batch) -> dict[str, Any]:
        with torch.no_grad():
            following = self.value(self.target, batch.next_obs, self.best(self.target, batch.next_obs))
        target = batch.reward + batch.discount * following.masked_fill(batch.terminated, 0.0)
        return {**batch._asdict(), "target": target}

    def update(self, batch: dict[str, Any], learning_rate: float | Tensor) -> Update:
        error = self.value(self.policy, batch["obs"], batch["action"]) - batch["target"]
        loss = (error.square() * batch["weight"]).mean()
        norm = self.optimizer.step(loss, learning_rate, reduce=self.reduce)
        return Update({"train/loss": loss.detach(), "train/grad_norm": norm}, error.detach())


def register() -> None:
    """Makes both known by name."""
    register_agent("dpg", DPG, DPGConfig)
    register_agent("branches", Branches, BranchesConfig)
