"""The critics of SAC: several networks Q(s, a), computed as one."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.agents.parts.custom_networks import encoder_for
from rltrain.agents.parts.networks import ACTIVATIONS
from rltrain.agents.sac.config import PolicyKwargs
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
        actions: A, the numbers in an action.
        config: Widths, activation, and how many critics.
        n_quantiles: K, the number of quantiles that represent the distribution of the return; 1 for its mean only.
    """

    def __init__(self, observation_space: spaces.Space, actions: int, config: PolicyKwargs, n_quantiles: int) -> None:
        super().__init__()
        n = config.n_critics
        self.encoder = encoder_for(observation_space, config, layer_norm=config.layer_norm)
        sizes = [self.encoder.size + actions, *config.net_arch.qf, n_quantiles]
        self.layers = nn.ModuleList(StackedLinear(n, *each) for each in pairwise(sizes))
        widths = config.net_arch.qf if config.layer_norm else []
        self.norms = nn.ModuleList(StackedNorm(n, width) for width in widths)
        self.activation = ACTIVATIONS[config.activation_fn]()
        self.n_critics = n

    def forward(self, scaled: Observation, action: Tensor, *, frozen: bool = False) -> Tensor:
        """Values (C, B), or quantiles (C, B, K), of actions (B, A) in [-1, 1].

        Args:
            scaled: Observations (B, *O), normalised if the agent does that.
            action: The actions.
            frozen: Whether there is a gradient for the actions alone.
        """
        if frozen:
            with torch.no_grad():
                features = self.encoder(scaled)
        else:
            features = self.encoder(scaled)
        x = torch.cat((features, action), -1).expand(self.n_critics, -1, -1)
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x, frozen)
            if self.norms:
                x = self.norms[i](x, frozen)
            x = self.activation(x)
        x = self.layers[-1](x, frozen)
        return x.squeeze(-1) if x.shape[-1] == 1 else x


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
