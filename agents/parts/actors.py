"""Actors of the built-in agents: one samples from an action distribution, the other follows action values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rltrain.agent import Actor, ActOut, State
from rltrain.agents.parts.distributions import Distribution
from rltrain.agents.parts.exploration import EpsilonGreedy
from rltrain.agents.parts.networks import mask_logits
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.recurrent import Memory
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer


class DistributionActor(Actor):
    """Samples actions from a distribution whose parameters are computed by layers.

    Args:
        distribution: The distribution of the actions.
        obs_normalizer: Scales observations; None if they are not scaled.
        **layers: Applied one after another, from observations (N, *O) to distribution parameters (N, P). If the last
            one returns a tuple, its first element is the parameters. One of them may be a
            :class:`~rltrain.agents.parts.recurrent.Memory`.
    """

    def __init__(
        self, distribution: Distribution, obs_normalizer: ObservationNormalizer | None = None, **layers: nn.Module
    ) -> None:
        super().__init__()
        self.distribution = distribution
        self.obs_normalizer = obs_normalizer
        self._layers = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)

    def initial_state(self, n: int) -> State:
        """The state of ``n`` rows at the start of an episode; None without memory."""
        memory = next((layer for layer in self.children() if isinstance(layer, Memory)), None)
        return None if memory is None else memory.initial_state(n)

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (N, P) for unscaled observations (N, *O), without memory."""
        return self.step(obs, None)[0]

    def step(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Distribution parameters (N, P) for unscaled observations (N, *O), and the state after these."""
        features: Any = obs if self.obs_normalizer is None else self.obs_normalizer(obs)
        for name in self._layers:
            layer = self.get_submodule(name)
            if isinstance(layer, Memory):
                features, state = layer(features, state)
            else:
                features = layer(features)
        return mask_logits(features[0] if isinstance(features, tuple) else features, obs), state

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A)."""
        params, state = self.step(obs, state)
        if deterministic:
            return ActOut(self.distribution.to_env(self.distribution.mode(params)), state)
        noise = self.distribution.noise(tuple(params.shape[:-1]), params.device, rng)
        return ActOut(self.distribution.to_env(self.distribution.sample(params, noise)), state)


class GreedyActor(Actor):
    """Takes the action with the highest value; unless deterministic, it explores as at the end of training.

    Args:
        network: Computes the action values.
        epsilon: The chance of a random action at the end of training.
        first_action: The number of the first action.
        obs_normalizer: Scales observations; None if they are not scaled.
    """

    def __init__(
        self,
        network: QNetwork,
        epsilon: float,
        first_action: int = 0,
        obs_normalizer: ObservationNormalizer | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.obs_normalizer = obs_normalizer
        self.epsilon = epsilon
        self.first_action = first_action

    def initial_state(self, n: int) -> State:
        """The state of ``n`` rows at the start of an episode; None without memory."""
        return self.network.initial_state(n)

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N,)."""
        scaled = obs if self.obs_normalizer is None else self.obs_normalizer(obs)
        if deterministic:
            values, state = self.network.step(scaled, state)
            return ActOut(values.argmax(1) + self.first_action, state)
        with self.network.noise(rng):
            values, state = self.network.step(scaled, state)
        explore = EpsilonGreedy(1, len(values), self.network.n_actions, values.device, rng)
        return ActOut(explore(values, obs, self.epsilon) + self.first_action, state)
