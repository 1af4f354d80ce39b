"""Actors of the built-in agents: one samples from an action distribution, the other follows action values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import Actor, ActOut, State
from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.distributions import Distribution, Gaussian, make_distribution
from rltrain.agents.parts.exploration import EpsilonGreedy
from rltrain.agents.parts.networks import hidden_widths, init_orthogonal, mask_logits, mlp
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.recurrent import Memory
from rltrain.agents.parts.settings import ActorKwargs
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer

LEAST_LOG_STD = -5.0
"""The logarithm of the standard deviation of a policy that is learned from data does not fall below this."""


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

    def log_likelihood(self, obs: Observation, action: Tensor) -> Tensor:
        """Log-probabilities, or log-densities, of actions (B, *A): (B,)."""
        if self.initial_state(1) is not None:
            return super().log_likelihood(obs, action)
        log_prob, _ = self.distribution.log_prob_entropy(self.params(obs), self.distribution.from_env(action))
        return log_prob - self.distribution.log_volume()

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A)."""
        params, state = self.step(obs, state)
        if deterministic:
            return ActOut(self.distribution.to_env(self.distribution.mode(params)), state)
        noise = self.distribution.noise(tuple(params.shape[:-1]), params.device, rng)
        return ActOut(self.distribution.to_env(self.distribution.sample(params, noise)), state)


def make_actor(
    observation_space: spaces.Space,
    action_space: spaces.Space,
    kwargs: ActorKwargs,
    net_arch: Sequence[int] | None,
    obs_normalizer: ObservationNormalizer | None = None,
) -> DistributionActor:
    """A policy with the layers of PPO's, under the same names, so that PPO can start from it.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        kwargs: Encoder, activation and distribution.
        net_arch: Hidden layers; None for the default.
        obs_normalizer: Scales observations; None if they are not scaled.

    Raises:
        ConfigError: There is no network or distribution for one of the spaces.
    """
    squash = kwargs.squash_output and isinstance(action_space, spaces.Box)
    distribution = make_distribution(action_space, log_std_init=kwargs.log_std_init, squash=squash)
    encoder = encoder_for(observation_space, kwargs)
    widths = hidden_widths(net_arch, encoder)
    hidden = mlp(encoder.size, widths, kwargs.activation_fn)
    head = nn.Linear((widths or [encoder.size])[-1], distribution.size)
    init_orthogonal(hidden)
    init_orthogonal(head, 0.01)
    return DistributionActor(distribution, obs_normalizer, encoder=encoder, pi=hidden, action_head=head)


def keep_some_noise(distribution: Distribution) -> None:
    """Stops the deviation of Box actions from falling: data without noise would let it fall for ever."""
    if isinstance(distribution, Gaussian):
        distribution.log_std.data.clamp_(min=LEAST_LOG_STD)


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

    def log_likelihood(self, obs: Observation, action: Tensor) -> Tensor:
        """Log-probabilities of actions (B,), a random one being any that is allowed: (B,)."""
        if self.initial_state(1) is not None or self.network.noisy_layers:
            return super().log_likelihood(obs, action)
        values = self.network(obs if self.obs_normalizer is None else self.obs_normalizer(obs))
        allowed = (mask_logits(torch.zeros_like(values), obs) == 0).to(values.dtype)
        chance = allowed / allowed.sum(1, keepdim=True) * self.epsilon
        taken = (action - self.first_action).unsqueeze(1)
        best = (values.argmax(1, keepdim=True) == taken).to(values.dtype)
        return (chance.gather(1, taken) + (1.0 - self.epsilon) * best).squeeze(1).log()

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
