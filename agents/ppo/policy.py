"""The actor and the critic, as Stable-Baselines3 builds them."""

from __future__ import annotations

import math

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import State
from rltrain.agents.parts.custom_networks import CustomEncoder, blank, encoder_for, expect, make_custom
from rltrain.agents.parts.distributions import make_distribution
from rltrain.agents.parts.manual_grad import Back, Perceptron, by_autograd, evaluate
from rltrain.agents.parts.networks import hidden_widths, in_bfloat16, init_orthogonal, mask_logits, mlp
from rltrain.agents.parts.recurrent import Sequences, make_memory
from rltrain.agents.ppo.config import PolicyKwargs
from rltrain.env import Observation
from rltrain.errors import ConfigError


class ActorCritic(nn.Module):
    """One encoder, possibly a memory, then a network for the policy and a network for the value.

    With memory, states are those of :class:`~rltrain.agents.parts.recurrent.Memory`; otherwise they are None.

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
        self.memory = make_memory(config, self.encoder.size)
        asked_for, size = config.net_arch, self.encoder.size if self.memory is None else self.memory.size
        pi, vf = (
            hidden_widths(None if asked_for is None else getattr(asked_for, name), self.encoder)
            for name in ("pi", "vf")
        )
        self.pi = mlp(size, pi, config.activation_fn)
        self.vf = mlp(size, vf, config.activation_fn)
        self.action_head = nn.Linear((pi or [size])[-1], self.distribution.size)
        self.value_head = nn.Linear((vf or [size])[-1], 1)
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

    def forward(self, obs: Observation | Sequences) -> tuple[Tensor, Tensor]:
        """Distribution parameters (..., B, P) and values (..., B); with memory for the B = T * N rows of sequences.

        There are leading dimensions if the parameters of several networks are stacked.
        """
        if isinstance(obs, Sequences):
            assert self.memory is not None
            features, obs = self.memory.outputs(self.encoder(obs.obs), obs), obs.obs
        else:
            features = self.encoder(obs)
        return mask_logits(self.params_of(features), obs), self.value_of(features).squeeze(-1)

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (..., B, P), without memory."""
        return mask_logits(self.params_of(self.encoder(obs)), obs)

    def step(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Distribution parameters (..., B, P) and the state after the observations, for the state before them."""
        if self.memory is None:
            return self.params(obs), None
        features, state = self.memory(self.encoder(obs), state)
        return mask_logits(self.params_of(features), obs), state

    def value(self, obs: Observation, state: State = None) -> Tensor:
        """Values (..., B) for the state before the observations."""
        features = self.encoder(obs)
        if self.memory is not None:
            features, _ = self.memory(features, state)
        return self.value_of(features).squeeze(-1)

    def value_after(self, state: State) -> Tensor:
        """Values (B,) of observations that are in the state already."""
        assert self.memory is not None
        return self.value_of(self.memory.output(state)).squeeze(-1)

    def actor_layers(self) -> dict[str, nn.Module]:
        """The layers that compute distribution parameters, in order, by name."""
        memory = {} if self.memory is None else {"memory": self.memory}
        return {"encoder": self.encoder, **memory, "pi": self.pi, "action_head": self.action_head}

    def evaluate(self, obs: Observation | Sequences) -> tuple[tuple[Tensor, ...], Back]:
        """The outputs of :meth:`forward`, without a gradient, and the backward pass from the gradients of both."""
        if not self.written_out or isinstance(obs, Sequences):
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
        if not self.written_out or self.memory is not None or list(self.encoder.parameters()):
            return False
        return bool(self.params_of.links and self.value_of.links)

    def use_bfloat16(self, device: torch.device) -> None:
        """Lets layers multiply in bfloat16; their outputs are float32."""
        self.written_out = False
        for name in ("forward", "params", "step", "value", "value_after"):
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
        self.memory = None
        self.distribution = make_distribution(
            action_space, log_std_init=config.log_std_init, squash=config.squash_output
        )
        outputs = self.distribution.size
        assert config.network_class is not None
        self.network = make_custom(config.network_class, observation_space, outputs, **config.network_kwargs)
        expect(self.network, blank(observation_space, 2), type(self.network).__name__, ((2, outputs), (2,)))

    def forward(self, obs: Observation | Sequences) -> tuple[Tensor, Tensor]:
        """Distribution parameters (B, P) and values (B,)."""
        assert not isinstance(obs, Sequences)
        params, value = self.network(obs)
        return mask_logits(params, obs), value

    def params(self, obs: Observation) -> Tensor:
        """Distribution parameters (B, P)."""
        return self(obs)[0]

    def value(self, obs: Observation, state: State = None) -> Tensor:
        """Values (B,)."""
        return self(obs)[1]

    def actor_layers(self) -> dict[str, nn.Module]:
        """The whole network, since it is not known which part of it computes the value."""
        return {"network": self.network}


def make_policy(observation_space: spaces.Space, action_space: spaces.Space, config: PolicyKwargs) -> ActorCritic:
    """The networks that a configuration asks for.

    Raises:
        ConfigError: They cannot be had.
    """
    if config.network_class is None:
        return ActorCritic(observation_space, action_space, config)
    if config.memory is not None:
        raise ConfigError(
            f"A network of your own cannot be given memory: {config.memory}.",
            "Leave memory out, or give features_extractor_class instead of network_class.",
        )
    return CustomActorCritic(observation_space, action_space, config)
