"""Critics that take actions as an input: several networks Q(s, a), computed as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.networks import ACTIVATIONS, Encoder, make_encoder
from rltrain.agents.parts.settings import NetworkKwargs
from rltrain.env import Observation


class StackedLinear(nn.Module):
    """C linear layers side by side, with the initial weights of ``nn.Linear``."""

    def __init__(self, n: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(n, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, frozen: bool) -> Tensor:
        """(C, B, inputs) to (C, B, outputs); no gradient for the parameters if they are frozen."""
        weight, bias = (each.detach() if frozen else each for each in (self.weight, self.bias))
        return torch.baddbmm(bias, x, weight.mT)


class StackedNorm(nn.Module):
    """C layer normalisations side by side."""

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n, 1, width))
        self.bias = nn.Parameter(torch.zeros(n, 1, width))

    def forward(self, x: Tensor, frozen: bool) -> Tensor:
        """(C, B, width) to the same; no gradient for the parameters if they are frozen."""
        weight, bias = (each.detach() if frozen else each for each in (self.weight, self.bias))
        return torch.addcmul(bias, F.layer_norm(x, x.shape[-1:]), weight)


class Critics(nn.Module):
    """C critics behind one encoder, each with its own layers.

    Args:
        observation_space: Space of a single observation.
        actions: A, the numbers in an action; 0 for networks V(s) of the state alone.
        config: Encoder and activation.
        widths: Hidden layers of each.
        n_critics: C.
        n_quantiles: K, the number of quantiles that represent the distribution of the return; 1 for its mean only.
        layer_norm: Whether every layer is normalised before its activation.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        actions: int,
        config: NetworkKwargs,
        widths: Sequence[int],
        *,
        n_critics: int = 1,
        n_quantiles: int = 1,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder_for(observation_space, config, layer_norm=layer_norm)
        sizes = [self.encoder.size + actions, *widths, n_quantiles]
        self.layers = nn.ModuleList(StackedLinear(n_critics, *each) for each in pairwise(sizes))
        self.norms = nn.ModuleList(StackedNorm(n_critics, width) for width in (widths if layer_norm else []))
        self.activation = ACTIVATIONS[config.activation_fn]()
        self.n_critics = n_critics

    def forward(self, scaled: Observation, action: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        """Values (C, B), or quantiles (C, B, K), of actions (B, A) in [-1, 1].

        Args:
            scaled: Observations (B, *O), normalised if the agent does that.
            action: The actions; None for values of the state.
            frozen: Whether there is a gradient for the actions alone.
        """
        if frozen:
            with torch.no_grad():
                features = self.encoder(scaled)
        else:
            features = self.encoder(scaled)
        x = features if action is None else torch.cat((features, action), -1)
        x = x.expand(self.n_critics, -1, -1)
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x, frozen)
            if self.norms:
                x = self.norms[i](x, frozen)
            x = self.activation(x)
        x = self.layers[-1](x, frozen)
        return x.squeeze(-1) if x.shape[-1] == 1 else x


class ScaledActions(Encoder):
    """Box actions as flat numbers, those between finite bounds scaled to [-1, 1]."""

    offset: Tensor  # (A,)
    scale: Tensor  # (A,)

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        low, high = (np.asarray(bound, np.float64).ravel() for bound in (space.low, space.high))
        bounded = np.isfinite(low) & np.isfinite(high) & (high > low)
        middle = np.where(bounded, 0.5 * (np.where(bounded, low, 0.0) + np.where(bounded, high, 0.0)), 0.0)
        half = np.where(bounded, 0.5 * (np.where(bounded, high, 2.0) - np.where(bounded, low, 0.0)), 1.0)
        self.size = len(low)
        for name, numbers in (("offset", middle), ("scale", half)):
            self.register_buffer(name, torch.as_tensor(numbers, dtype=torch.float32), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """(B, *A) to (B, A)."""
        return (action.reshape(len(action), -1).to(torch.float32) - self.offset) / self.scale


def action_encoder(space: spaces.Space) -> Encoder:
    """Actions of any kind as numbers (B, A) for critics: choices as one-hot vectors, numbers scaled by their bounds.

    Raises:
        ConfigError: There are no such numbers for the space.
    """
    return ScaledActions(space) if isinstance(space, spaces.Box) else make_encoder(space)


def hidden_layers(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of the linear layers that a layer normalisation follows."""
    layers: Iterable[Any] = network.layers[:-1] if isinstance(network, Critics) else network.modules()
    return [(each.weight, each.bias) for each in layers if isinstance(each, nn.Linear | StackedLinear)]


@torch.no_grad()
def scale_back(layers: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Scales layers so that the rows of each weight (..., outputs, inputs) have the root mean square length 1.

    A layer normalisation follows, so no output changes. But the step size relative to the weights no longer falls as
    these grow: Lyle et al. (2024), arXiv:2407.01800.
    """
    for weight, bias in layers:
        norm = torch.linalg.vector_norm(weight, dim=(-2, -1), keepdim=weight.dim() > 2) / weight.shape[-2] ** 0.5
        weight.div_(norm)
        bias.div_(norm)
