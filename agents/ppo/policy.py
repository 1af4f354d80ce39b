"""The actor and the critic, as Stable-Baselines3 builds them."""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.custom_networks import CustomEncoder, blank, encoder_for, expect, make_custom
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.manual_grad import Back, Perceptron, by_autograd, evaluate
from rltrain.agents.parts.networks import in_bfloat16, init_orthogonal, mask_logits, mlp
from rltrain.agents.ppo.config import PolicyKwargs
from rltrain.env import Observation


class ActorCritic(nn.Module):
    """One encoder, then a network for the policy and a network for the value.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        config: Widths, activation, initial weights.

    Raises:
        ConfigError: No network or distribution fits one of the spaces.
    """

    written_out = True  # whether to use :mod:`~rltrain.agents.parts.manual_grad` if it supports the layers

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, config: PolicyKwargs) -> None:
        super().__init__()
        self.encoder = encoder_for(observation_space, config)
        self.distribution = make_distribution(
            action_space, log_std_init=config.log_std_init, squash=config.squash_output
        )
        self.pi = mlp(self.encoder.size, config.net_arch.pi, config.activation_fn)
        self.vf = mlp(self.encoder.size, config.net_arch.vf, config.activation_fn)
        self.action_head = nn.Linear((config.net_arch.pi or [self.encoder.size])[-1], self.distribution.size)
        self.value_head = nn.Linear((config.net_arch.vf or [self.encoder.size])[-1], 1)
        if config.ortho_init:
            if not isinstance(self.encoder, CustomEncoder):  # which keeps the weights of its author
                init_orthogonal(self.encoder)
            for module, gain in (
                (self.pi, math.sqrt(2.0)),
                (self.vf, math.sqrt(2.0)),
                (self.action_head, 0.01),
                (self.value_head, 1.0),
            ):
                init_orthogonal(module, gain)
        self.params_of = Perceptron(self.pi, self.action_head)
        self.value_of = Perceptron(self.vf, self.value_head)

    def forward(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Distribution parameters (..., B, P) and values (..., B).

        There are leading dimensions if the parameters of several networks are stacked.
        """
        features = self.encoder(obs)
        return mask_logits(self.params_of(features), obs), self.value_of(features).squeeze(-1)

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (..., B, P)."""
        return mask_logits(self.params_of(self.encoder(obs)), obs)

    def value(self, obs: Observation) -> Tensor:
        """Values (..., B)."""
        return self.value_of(self.encoder(obs)).squeeze(-1)

    def actor_layers(self) -> dict[str, nn.Module]:
        """The layers that compute distribution parameters, in order, by name."""
        return {"encoder": self.encoder, "pi": self.pi, "action_head": self.action_head}

    def evaluate(self, obs: Observation) -> tuple[tuple[Tensor, ...], Back]:
        """The outputs of :meth:`forward`, without a gradient, and the backward pass from the gradients of both."""
        if not self.written_out:
            return by_autograd(*self(obs))
        features = self.encoder(obs)
        found = evaluate(features, self.params_of, self.value_of)
        if found is None:
            params, value = self.params_of(features), self.value_of(features)
            return by_autograd(mask_logits(params, obs), value.squeeze(-1))
        (params, value), back = found
        outputs = mask_logits(params, obs), value.squeeze(-1)
        return outputs, lambda by_params, by_value: back(by_params, by_value.unsqueeze(-1))

    @property
    def stackable(self) -> bool:
        """Whether K such networks can be evaluated as one."""
        if not self.written_out or list(self.encoder.parameters()):
            return False
        return bool(self.params_of.links and self.value_of.links)

    def use_bfloat16(self, device: torch.device) -> None:
        """Lets layers multiply in bfloat16; their outputs are float32."""
        self.written_out = False
        for name in ("forward", "params", "value"):
            setattr(self, name, in_bfloat16(getattr(self, name), device))


class CustomActorCritic(ActorCritic):
    """A user-defined network in place of encoder, layers and heads.

    The class ``own = config.network_class`` is called as ``own(observation_space, outputs, **network_kwargs)``; its
    ``forward`` turns observations (B, *O) into distribution parameters (B, outputs), such as logits, and values (B,).

    Raises:
        ConfigError: The network does not have this form, or no distribution fits the action space.
    """

    written_out = False  # its layers are not known

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, config: PolicyKwargs) -> None:
        nn.Module.__init__(self)  # without the layers of ActorCritic
        self.distribution = make_distribution(
            action_space, log_std_init=config.log_std_init, squash=config.squash_output
        )
        outputs = self.distribution.size
        assert config.network_class is not None
        self.network = make_custom(config.network_class, observation_space, outputs, **config.network_kwargs)
        expect(self.network, blank(observation_space, 2), type(self.network).__name__, ((2, outputs), (2,)))

    def forward(self, obs: Observation) -> tuple[Tensor, Tensor]:
        """Distribution parameters (B, P) and values (B,)."""
        params, value = self.network(obs)
        return mask_logits(params, obs), value

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (B, P)."""
        return self(obs)[0]

    def value(self, obs: Observation) -> Tensor:
        """Values (B,)."""
        return self(obs)[1]

    def actor_layers(self) -> dict[str, nn.Module]:
        """The whole network, since it is not known which part of it computes the value."""
        return {"network": self.network}


def make_policy(observation_space: spaces.Space, action_space: spaces.Space, config: PolicyKwargs) -> ActorCritic:
    """The networks that a configuration asks for."""
    kind = ActorCritic if config.network_class is None else CustomActorCritic
    return kind(observation_space, action_space, config)
