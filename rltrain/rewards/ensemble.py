"""A reward learned from preferences: an ensemble of networks on an observation and the action taken there.

Christiano et al. (2017), "Deep Reinforcement Learning from Human Preferences", arXiv:1706.03741.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

import torch
from gymnasium import spaces
from pydantic import Field
from torch import Tensor, nn

from rltrain.agents.parts.networks import Encoder, make_encoder
from rltrain.config import Model
from rltrain.env import Observation
from rltrain.rng import derive_seed, seeded

MOST = 10.0
"""Standardised features are cut off here, so that a state unlike all in the clips gets no reward without bound."""


class EnsembleConfig(Model):
    """The networks of a reward model, and how they are fitted."""

    members: Annotated[int, Field(ge=1, le=64)] = 5
    """Networks, each fitted to a bootstrap sample of the pairs."""
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=4096)], ...], Field(max_length=64)] = (64, 64)
    """Widths of the hidden layers of each."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    """Step size of Adam."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay, which keeps rewards small where the pairs say nothing."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Pairs of a minibatch."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] = 100
    """The most passes over the pairs."""
    patience: Annotated[int, Field(ge=1)] = 10
    """Passes without a lower loss on the pairs left out of the samples, after which fitting ends."""


class RewardEnsemble(nn.Module):
    """K networks from an observation and an action to a reward.

    Args:
        observation_space: Space of a single observation, as the agent sees it.
        action_space: Space of a single action, as the agent gives it.
        config: The networks.
        seed: Seed of their first weights.

    Raises:
        ConfigError: There is no network for a space.
    """

    feature_mean: Tensor  # (F,) of encoded observations and actions, where the encoding learns nothing
    feature_std: Tensor  # (F,)
    shift: Tensor  # (K,)
    scale: Tensor  # (K,)

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, config: EnsembleConfig, seed: int = 0
    ) -> None:
        super().__init__()
        self.observation_space, self.action_space, self.config = observation_space, action_space, config
        with seeded(derive_seed(seed, "reward")):
            first = make_encoder(observation_space)
            learned = any(True for _ in first.parameters())
            more = [make_encoder(observation_space) for _ in range(config.members - 1)] if learned else []
            self.encoders: nn.ModuleList = nn.ModuleList([first, *more])
            self.action_encoder: Encoder = make_encoder(action_space, flatten=True)
            widths = [first.size + self.action_encoder.size, *config.hidden, 1]
            self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
            for inputs, outputs in pairwise(widths):
                bound = 1 / math.sqrt(inputs)
                weight = torch.empty(config.members, inputs, outputs).uniform_(-bound, bound)
                self.weights.append(nn.Parameter(weight))
                self.biases.append(nn.Parameter(torch.zeros(config.members, 1, outputs)))
        self.register_buffer("feature_mean", torch.zeros(widths[0]))
        self.register_buffer("feature_std", torch.ones(widths[0]))
        self.register_buffer("shift", torch.zeros(config.members))
        self.register_buffer("scale", torch.ones(config.members))

    def forward(self, obs: Observation, action: Tensor) -> Tensor:
        """The reward (B,) of actions (B, *A) for observations (B, *O): the mean over the members, each normalised."""
        return ((self.raw(obs, action) - self.shift[:, None]) / self.scale[:, None]).mean(0)

    def raw(self, obs: Observation, action: Tensor) -> Tensor:
        """(K, B), what each member says, of which preferences are functions."""
        x = (self.features(obs, action) - self.feature_mean) / self.feature_std
        x = x.clamp(-MOST, MOST).expand(len(self.shift), -1, -1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = nn.functional.silu(torch.baddbmm(bias, x, weight))
        return torch.baddbmm(self.biases[-1], x, self.weights[-1]).squeeze(2)

    def features(self, obs: Observation, action: Tensor) -> Tensor:
        """(1, B, F), or (K, B, F) where each member has an encoder of its own: what the networks get, not scaled."""
        acted = self.action_encoder(action)
        return torch.stack([torch.cat([encoder(obs), acted], 1) for encoder in self.encoders])

    @torch.no_grad()
    def standardise(self, obs: Observation, action: Tensor) -> None:
        """Takes mean and deviation of the features from a sample; left alone where encoders are learned."""
        if len(self.encoders) == 1:
            features = self.features(obs, action)[0]
            deviation = features.std(0, correction=0)
            self.feature_mean.copy_(features.mean(0))
            self.feature_std.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    @torch.no_grad()
    def normalise(self, raw: Tensor, counts: Tensor, *, keep_level: bool) -> None:
        """Sets the scale on which rewards are about 1 a step, over the steps of clips: as agents' settings expect.

        Args:
            raw: (K, M) what each member says of M steps.
            counts: (M,) bool, false for steps after the end of an episode, where nothing is earned.
            keep_level: Whether 0 is what is earned after an end, so that the level of rewards means something: then
                their mean square becomes 1. Where no clip has an end, it means nothing: mean 0, variance 1.
        """
        earned = raw[:, counts]
        self.shift.copy_(torch.zeros_like(self.shift) if keep_level else earned.mean(1))
        deviation = (earned - self.shift[:, None]).square().mean(1).sqrt()
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))
