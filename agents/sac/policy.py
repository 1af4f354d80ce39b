"""The policy of SAC: tanh of a Gaussian whose mean and deviation depend on the observation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import ACTOR, Actor, ActOut, State
from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.distributions import INSIDE
from rltrain.agents.parts.networks import mlp
from rltrain.agents.parts.squashed import LOG_STD_MAX, LOG_STD_MIN, between, squashed_log_prob
from rltrain.agents.sac.config import PolicyKwargs
from rltrain.env import Observation
from rltrain.normalize import ObservationNormalizer

SDE_VARIANCE = 1e-6  # added to the variance of state-dependent noise
Gaussian: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Mean (B, A) and log-deviation (B, A) before tanh, and the features (B, F) that they are computed from."""


class SquashedActor(Actor):
    """Samples actions in (-1, 1), scaled to the bounds of the action space for the environment.

    With ``use_sde``, noise is linear in the features of the last hidden layer, with a matrix that is drawn rarely:
    generalised state-dependent exploration, Raffin et al. (2021), arXiv:2005.05719, section 3.

    Args:
        observation_space: Space of a single observation.
        action_space: Box with finite bounds.
        config: Widths, activation, and the settings of state-dependent noise.
        use_sde: Whether the noise depends on the state.
        obs_normalizer: Scales observations; None if they are not scaled.
    """

    low: Tensor  # (*A)
    high: Tensor  # (*A)

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Box,
        config: PolicyKwargs,
        *,
        use_sde: bool = False,
        obs_normalizer: ObservationNormalizer | None = None,
    ) -> None:
        super().__init__()
        self.obs_normalizer = obs_normalizer
        self.encoder = encoder_for(observation_space, config, layer_norm=config.layer_norm)
        widths = config.net_arch.pi
        self.body = mlp(self.encoder.size, widths, config.activation_fn, layer_norm=config.layer_norm)
        self.features = (widths or [self.encoder.size])[-1]
        for name, bound in (("low", action_space.low), ("high", action_space.high)):
            self.register_buffer(name, torch.as_tensor(bound, dtype=torch.float32), persistent=False)
        self.size = self.low.numel()
        self.head = nn.Linear(self.features, self.size if use_sde else 2 * self.size)
        self.log_std: nn.Parameter | None = None  # (F, A) of the weights of the noise
        self.use_expln, self.clip_mean = config.use_expln, config.clip_mean
        if use_sde:
            self.log_std = nn.Parameter(torch.full((self.features, self.size), config.log_std_init))

    def normalized(self, obs: Observation) -> Observation:
        """Observations (B, *O) as the networks take them."""
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    def gaussian(self, scaled: Observation) -> Gaussian:
        """The distribution of the actions before tanh, for observations from :meth:`normalized`."""
        features = self.body(self.encoder(scaled))
        out = self.head(features)
        if self.log_std is None:
            mean, log_std = out.chunk(2, -1)
            return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), features
        mean = out.clamp(-self.clip_mean, self.clip_mean) if self.clip_mean > 0 else out
        variance = features.square() @ self.noise_std().square() + SDE_VARIANCE
        return mean, 0.5 * variance.log(), features

    def noise_std(self) -> Tensor:
        """Standard deviations (F, A) of the weights of state-dependent noise."""
        assert self.log_std is not None
        if not self.use_expln:
            return self.log_std.exp()
        # Of the two branches, each is kept finite where the other holds, so that its gradient is.
        below, above = self.log_std.clamp(max=0.0), self.log_std.clamp(min=0.0)
        return torch.where(self.log_std > 0, above.log1p() + 1.0, below.exp())

    def sample(self, scaled: Observation, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions (B, A) in (-1, 1) and their log-probabilities (B,), both with a gradient.

        Args:
            scaled: Observations from :meth:`normalized`.
            noise: Standard normal: (B, A), or matrices (1, F, A) for all rows or (B, F, A), one for each.
        """
        mean, log_std, features = self.gaussian(scaled)
        offset = self._offset(log_std, features, noise)
        raw = mean + offset
        z = noise if noise.dim() == 2 else offset * (-log_std).exp()
        return raw.tanh(), squashed_log_prob(raw, z, log_std)

    def explore(self, scaled: Observation, noise: Tensor) -> Tensor:
        """The actions of :meth:`sample` alone."""
        mean, log_std, features = self.gaussian(scaled)
        return (mean + self._offset(log_std, features, noise)).tanh()

    def _offset(self, log_std: Tensor, features: Tensor, noise: Tensor) -> Tensor:
        """What noise adds to the mean, (B, A)."""
        if noise.dim() == 2:
            return log_std.exp() * noise
        matrices = self.noise_std() * noise
        if len(matrices) == 1:
            return features @ matrices[0]
        return (features.unsqueeze(1) @ matrices).squeeze(1)

    def to_env(self, action: Tensor) -> Tensor:
        """Actions (B, A) in [-1, 1] as actions (B, *A) between the bounds of the space."""
        return between(self.low, self.high, action.view(-1, *self.low.shape))

    def from_env(self, action: Tensor) -> Tensor:
        """Actions (B, *A) between the bounds of the space as actions (B, A) in [-1, 1]."""
        return (2.0 * (action - self.low) / (self.high - self.low) - 1.0).flatten(1)

    def log_prob(self, scaled: Observation, action: Tensor) -> Tensor:
        """Log-probabilities (B,) of actions (B, A) in [-1, 1], those at the bounds taken a little inside of them."""
        mean, log_std, _ = self.gaussian(scaled)
        raw = action.clamp(-INSIDE, INSIDE).atanh()
        return squashed_log_prob(raw, (raw - mean) * (-log_std).exp(), log_std)

    def log_likelihood(self, obs: Observation, action: Tensor) -> Tensor:
        """Log-densities (B,) of actions (B, *A) between the bounds of the space."""
        half = 0.5 * (self.high - self.low)
        return self.log_prob(self.normalized(obs), self.from_env(action)) - half.log().sum()

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Actions (N, *A); a sample has noise of its own for every row, also with ``use_sde``."""
        mean, log_std, _ = self.gaussian(self.normalized(obs))
        if not deterministic:
            noise = torch.randn(mean.shape, device=mean.device, generator=rng)
            mean = torch.addcmul(mean, log_std.exp(), noise)
        return ActOut(self.to_env(mean.tanh()))


def from_squashed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a squashed Gaussian with PPO's layers by SAC's names; its deviation becomes a bias."""
    heads = f"{ACTOR}action_head.", f"{ACTOR}distribution."
    found = {
        name.replace(f"{ACTOR}pi.", f"{ACTOR}body.", 1): tensor
        for name, tensor in state.items()
        if not name.startswith(heads)
    }
    weight = state[f"{ACTOR}action_head.weight"]
    found[f"{ACTOR}head.weight"] = torch.cat([weight, torch.zeros_like(weight)])
    bias = state[f"{ACTOR}action_head.bias"], state[f"{ACTOR}distribution.log_std"]
    return {**found, f"{ACTOR}head.bias": torch.cat(bias)}
