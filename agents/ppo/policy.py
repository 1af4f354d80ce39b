"""The actor and the critic, as Stable-Baselines3 builds them."""

from __future__ import annotations

import math

from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.distributions import make_distribution
from rltrain.agents.networks import init_orthogonal, make_encoder, mask_logits, mlp
from rltrain.agents.ppo.config import PolicyKwargs
from rltrain.env import Observation


class ActorCritic(nn.Module):
    """One encoder, then a network for the policy and a network for the value.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        config: Widths, activation, initial weights.

    Raises:
        ConfigError: A space that no network or distribution fits.
    """

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, config: PolicyKwargs) -> None:
        super().__init__()
        self.encoder = make_encoder(observation_space, flatten=config.features_extractor_class == "flatten")
        self.distribution = make_distribution(
            action_space, log_std_init=config.log_std_init, squash=config.squash_output
        )
        self.pi = mlp(self.encoder.size, config.net_arch.pi, config.activation_fn)
        self.vf = mlp(self.encoder.size, config.net_arch.vf, config.activation_fn)
        self.action_head = nn.Linear((config.net_arch.pi or [self.encoder.size])[-1], self.distribution.size)
        self.value_head = nn.Linear((config.net_arch.vf or [self.encoder.size])[-1], 1)
        if config.ortho_init:
            for module, gain in (
                (self.encoder, math.sqrt(2.0)),
                (self.pi, math.sqrt(2.0)),
                (self.vf, math.sqrt(2.0)),
                (self.action_head, 0.01),
                (self.value_head, 1.0),
            ):
                init_orthogonal(module, gain)

    def forward(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Distribution parameters (B, P) and values (B,)."""
        features = self.encoder(obs)
        params = mask_logits(self.action_head(self.pi(features)), obs)
        return params, self.value_head(self.vf(features)).squeeze(-1)

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (B, P)."""
        return mask_logits(self.action_head(self.pi(self.encoder(obs))), obs)

    def value(self, obs: Observation) -> Tensor:
        """Values (B,)."""
        return self.value_head(self.vf(self.encoder(obs))).squeeze(-1)
