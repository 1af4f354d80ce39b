"""Trains K agents as one: their networks are stacked, so that one operation serves all of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from rltrain.agent import ActOut, Agent, Metrics
from rltrain.agents.parts.on_policy import OnPolicyAgent
from rltrain.agents.parts.optim import StackedAdam
from rltrain.agents.parts.rollout import Rollout
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.normalize import ObservationNormalizer, RunningMoments
from rltrain.tree import leaves, tree_map
from rltrain.vec import VecStep

M = TypeVar("M", bound=nn.Module)


class Stacked(OnPolicyAgent):
    """K agents at once, each with its own weights, noise, minibatches, clipping and statistics.

    A subclass names it before the class of the agents among its bases. Every tensor has an additional dimension K:
    (T, K, N, ...) in the rollout, (K, B, ...) in a batch.

    Args:
        agents: Agents that differ only in their seeds, between two rollouts. Their parameters and moments become rows
            of shared tensors; their random numbers still come from their own generators.
    """

    def __init__(self, agents: Sequence[Agent]) -> None:
        first = cast(OnPolicyAgent, agents[0])
        spaces = first.observation_space, first.action_space
        Agent.__init__(self, *spaces, first.num_envs, first.config, device=first.device)
        self.agents: list[Any] = list(agents)
        self.stack = (len(agents),)
        self.horizon, self.n_updates = first.horizon, first.n_updates
        self.optimizer = StackedAdam([agent.optimizer for agent in self.agents])  # type: ignore[assignment]
        self.obs_normalizer = copy.deepcopy(first.obs_normalizer)
        self._stack_moments()
        self.rollout = Rollout(self.horizon)
        self.learned_from = {}

    @staticmethod
    def refusal() -> ConfigError:
        """The error for networks that cannot be stacked."""
        return ConfigError(
            "These networks cannot be trained for several seeds at once.",
            "Those of tanh, relu or silu on plain numbers can: --agent.policy-kwargs.activation-fn tanh. "
            "With images, memory, or networks of your own, start a run for each seed.",
        )

    def stack_network(self, module: M) -> M:
        """A network like that of one agent, with the parameters (K, ...) of the optimizer, in the same order.

        Its ``encoder`` must have no parameters.
        """
        stacked = copy.deepcopy(module)
        for number, (name, _) in enumerate(module.named_parameters()):
            parent, _, attribute = name.rpartition(".")
            every_row = 1 if parent == "distribution" else 0  # its parameters are (K, 1, P)
            view = cast(StackedAdam, self.optimizer).view(number, every_row)
            setattr(stacked.get_submodule(parent), attribute, view)
        stacked.encoder = StackedEncoder(cast(nn.Module, module.encoder))
        return stacked

    def act(self, obs: Observation, state: Tensor | None = None) -> ActOut:
        """Actions (K * N, *A)."""
        return ActOut(super().act(self._by_agent(obs)).action.flatten(0, 1))  # type: ignore[safe-super]

    def record(self, out: ActOut, step: VecStep) -> None:
        """Stores the outcome of the last ``act``, given (K * N, ...)."""
        names = "reward", "terminated", "truncated", "final_obs"
        super().record(out, step._replace(**{name: self._by_agent(getattr(step, name)) for name in names}))

    def learn_each(self) -> list[Metrics]:
        """Learns from the rollout and returns the metrics of each agent."""
        metrics = self.learn()
        columns = {tag: value.flatten().unbind() for tag, value in metrics.items() if isinstance(value, Tensor)}
        for k, agent in enumerate(self.agents):
            agent.n_updates = self.n_updates
            agent.part_of = self, k
        return [metrics | {tag: column[k] for tag, column in columns.items()} for k in range(len(self.agents))]

    def _by_agent(self, tree: Any) -> Any:
        """(K * N, ...) as (K, N, ...)."""
        return tree_map(lambda x: x.unflatten(0, (len(self.agents), self.num_envs)), tree)

    def _flat(self, tree: Any) -> Any:
        """(T, K, N, ...) as (K, T * N, ...), each agent's rows in the order they have alone."""
        return tree_map(lambda x: x.transpose(0, 1).flatten(1, 2), tree)

    def _by_step(self, batch: Tensor) -> Tensor:
        return batch.unflatten(1, (self.horizon, self.num_envs)).transpose(0, 1)

    def _minibatches(self, batch: Any) -> Iterator[Any]:
        """Minibatches (K, B, ...) of an epoch; each agent has the order that it would draw alone."""
        size, rows = self.config.batch_size, next(leaves(batch)).shape[1]
        order = torch.stack([torch.randperm(rows, generator=agent.rng, device=self.device) for agent in self.agents])
        order += rows * torch.arange(len(order), device=self.device).unsqueeze(1)
        parts = order.split(size, 1)
        where = torch.cat([part.flatten() for part in parts])
        cuts = [part.numel() for part in parts]

        def cut(x: Tensor) -> list[Tensor]:
            pieces = x.flatten(0, 1).index_select(0, where).split(cuts)
            return [piece.unflatten(0, part.shape) for piece, part in zip(pieces, parts, strict=True)]

        pieces = tree_map(cut, batch)
        for i in range(len(parts)):
            yield tree_map(lambda _, pieces, i=i: pieces[i], batch, pieces)

    def _update_obs_normalizer(self) -> None:
        if self.obs_normalizer is not None:
            for k, agent in enumerate(self.agents):
                agent.obs_normalizer.update(tree_map(lambda x, k=k: x[:, k].flatten(0, 1), self.rollout["obs"]))
            self._stack_moments()

    def _stack_moments(self) -> None:
        """Makes the normalizer scale observations (..., K, B, *O) by the statistics of the agents."""
        if self.obs_normalizer is not None:
            for name, moments in self.obs_normalizer.moments.items():
                each = [cast(ObservationNormalizer, agent.obs_normalizer).moments[name] for agent in self.agents]
                assert isinstance(moments, RunningMoments)
                moments.mean = torch.stack([cast(RunningMoments, one).mean for one in each]).unsqueeze(1)
                moments.var = torch.stack([cast(RunningMoments, one).var for one in each]).unsqueeze(1)


class StackedEncoder(nn.Module):
    """Applies one encoder without parameters to observations (K, B, *O)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, obs: Observation) -> Tensor:
        """(K, B, *O) to (K, B, size)."""
        shape = next(leaves(obs)).shape[:2]
        return self.encoder(tree_map(lambda x: x.flatten(0, 1), obs)).unflatten(0, shape)
