"""The action-value network of DQN and PQN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agent import ACTOR, State
from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.manual_grad import Back, Perceptron, by_autograd, evaluate
from rltrain.agents.parts.networks import hidden_widths, in_bfloat16, mask_logits, mlp, without_choice
from rltrain.agents.parts.recurrent import Sequences, make_memory
from rltrain.agents.parts.settings import MemoryKwargs, QNetworkKwargs
from rltrain.env import Observation
from rltrain.errors import ConfigError

SIGMA_0 = 0.5


class NoisyLinear(nn.Linear):
    """A linear layer with learned, factorised noise on its weights, drawn anew for every row of a batch.

    Fortunato et al. (2018), arXiv:1706.10295, equations 9 to 11. The noise on weight (o, i) is e_o * e_i, so no row
    needs a weight matrix of its own: y_o = m_o x + b_o + e_o (s_o (e * x) + c_o), with means m, b and deviations s, c.
    If ``drawing`` is false, the layer uses only the means.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        bound, sigma = inputs**-0.5, SIGMA_0 * inputs**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma))
        self.drawing = False
        self.rng: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        mean = super().forward(x)
        if not self.drawing:
            return mean
        inputs, outputs = (self._noise(x, size) for size in (self.in_features, self.out_features))
        return mean + outputs * F.linear(x * inputs, self.weight_sigma, self.bias_sigma)

    def _noise(self, x: Tensor, size: int) -> Tensor:
        normal = torch.randn(x.shape[0], size, device=x.device, generator=self.rng)
        return normal.sign() * normal.abs().sqrt()


class QNetwork(nn.Module):
    """Values of discrete actions.

    Args:
        observation_space: Space of a single observation.
        action_space: Discrete.
        config: Widths and activation; memory, if it is of a kind that may have it.
        dueling: Whether to add up a state value and advantages (Wang et al. 2016, arXiv:1511.06581, equation 9).
        n_quantiles: K, the number of quantiles that represent the distribution of the return; 1 for its mean only.
        noisy: Whether the layers after the encoder are :class:`NoisyLinear`.

    Raises:
        ConfigError: The action space is not Discrete, or no network fits the observation space.
    """

    written_out = True  # whether to use :mod:`~rltrain.agents.parts.manual_grad` if it supports the layers

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        config: QNetworkKwargs,
        *,
        dueling: bool = False,
        n_quantiles: int = 1,
        noisy: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(action_space, spaces.Discrete):
            raise ConfigError(
                f"There are no action values for the action space {action_space}.",
                "Use an environment with a Discrete action space, or train with ppo.",
            )
        self.n_actions, self.n_quantiles = int(action_space.n), n_quantiles
        linear = NoisyLinear if noisy else nn.Linear
        self.encoder = encoder_for(observation_space, config, layer_norm=config.layer_norm)
        self.memory = make_memory(config, self.encoder.size) if isinstance(config, MemoryKwargs) else None
        size = self.encoder.size if self.memory is None else self.memory.size
        widths = hidden_widths(config.net_arch, self.encoder)
        self.body = mlp(size, widths, config.activation_fn, layer_norm=config.layer_norm, linear=linear)
        size = (widths or [size])[-1]
        self.action_head = linear(size, self.n_actions * n_quantiles)
        self.value_head = linear(size, n_quantiles) if dueling else None
        self.features_of, self.values_of = Perceptron(self.body), Perceptron(self.body, self.action_head)
        self.noisy_layers = [layer for layer in self.modules() if isinstance(layer, NoisyLinear)]

    def quantiles(self, obs: Observation) -> Tensor:
        """Quantiles (B, A, K) of the return of every action; for K = 1, its mean."""
        features = self.features_of(self.encoder(obs))
        values = self.action_head(features).view(-1, self.n_actions, self.n_quantiles)
        if self.value_head is not None:
            values = values - values.mean(1, keepdim=True) + self.value_head(features).unsqueeze(1)
        return values

    def forward(self, obs: Observation | Sequences) -> Tensor:
        """Expected returns (..., B, A); those of forbidden actions are so low that they are never the highest.

        There are leading dimensions if the parameters of several networks are stacked. With memory, they are returned
        for the B = T * N rows of sequences.
        """
        if isinstance(obs, Sequences):
            assert self.memory is not None
            return mask_logits(self.values_of(self.memory.outputs(self.encoder(obs.obs), obs)), obs.obs)
        if self.n_quantiles == 1 and self.value_head is None:  # the most common case, and the shortest path
            return mask_logits(self.values_of(self.encoder(obs)), obs)
        return mask_logits(self.quantiles(obs).mean(2), obs)

    def step(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Expected returns (..., B, A) and the state after the observations, for the state before them."""
        if self.memory is None:
            return self(obs), None
        features, state = self.memory(self.encoder(obs), state)
        return mask_logits(self.values_of(features), obs), state

    def initial_state(self, n: int) -> State:
        """The state of ``n`` rows at the start of an episode; None without memory."""
        return None if self.memory is None else self.memory.initial_state(n)

    def state_value(self, obs: Observation) -> Tensor:
        """Values (B, K) of states, which a dueling network has."""
        assert self.value_head is not None
        return self.value_head(self.features_of(self.encoder(obs)))

    def evaluate(self, obs: Observation | Sequences) -> tuple[Tensor, Back]:
        """Values (..., B, A) or quantiles (B, A, K), without a gradient, and the backward pass."""
        if isinstance(obs, Sequences):
            (values,), back = by_autograd(self(obs))
        elif self.n_quantiles > 1:
            (values,), back = by_autograd(self.quantiles(obs))
        elif self.value_head is not None or not self.written_out:
            (values,), back = by_autograd(self(obs))
        else:
            features = self.encoder(obs)
            (values,), back = evaluate(features, self.values_of) or by_autograd(self.values_of(features))
        return values, back

    @property
    def stackable(self) -> bool:
        """Whether K such networks can be evaluated as one."""
        if self.n_quantiles > 1 or self.value_head is not None or not self.written_out or self.memory is not None:
            return False
        return bool(self.values_of.links) and not list(self.encoder.parameters())

    def use_bfloat16(self, device: torch.device) -> None:
        """Lets layers multiply in bfloat16; their outputs are float32."""
        self.written_out = False
        for name in ("forward", "step", "quantiles"):
            setattr(self, name, in_bfloat16(getattr(self, name), device))

    @contextmanager
    def noise(self, rng: torch.Generator | None) -> Iterator[None]:
        """Lets noisy layers draw from ``rng`` within a block."""
        for layer in self.noisy_layers:
            layer.drawing, layer.rng = True, rng
        try:
            yield
        finally:
            for layer in self.noisy_layers:
                layer.drawing, layer.rng = False, None


def from_policy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a policy with PPO's layers as those of a network of action values and its target.

    The logits of its actions stand for their values: the best action is then the one that the policy thinks likeliest.
    """
    if not any(name.startswith(f"{ACTOR}pi.") for name in state):
        return dict(state)
    parts = {f"{ACTOR}pi.": "body.", f"{ACTOR}encoder.": "encoder.", f"{ACTOR}action_head.": "action_head."}
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        old = next((old for old in parts if name.startswith(old)), None)
        if old is None:
            found[name] = tensor
        else:
            own = parts[old] + name.removeprefix(old)
            found |= {f"{ACTOR}network.{own}": tensor, f"target.{own}": tensor}
    return found


def valued_without_choice(value: Tensor, obs: Observation, network: QNetwork) -> Tensor:
    """The values (..., B, K) of the best actions, or of all, except where the mask of ``obs`` allows none.

    There it is the value of the state if the network has one (dueling), and else that of no action, 0.
    """
    none = without_choice(obs)
    if none is None:
        return value
    if network.value_head is None:
        return value.masked_fill(none, 0.0)
    return torch.where(none, network.state_value(obs), value)


def at_action(value: Tensor, action: Tensor, n_actions: int) -> Tensor:
    """Tensor (..., A) with ``value`` (...) at the ``action`` (...) that was taken and 0 at the others."""
    return value.new_zeros(*value.shape, n_actions).scatter_(-1, action.unsqueeze(-1), value.unsqueeze(-1))
