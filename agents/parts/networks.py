"""Networks: encoders for every kind of observation, and multi-layer perceptrons behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.spaces import MASK, channels_first
from rltrain.tree import tree_map


class _Tanh(torch.autograd.Function):
    """tanh(x) = 2 sigmoid(2x) - 1, which takes a third of the time on a CPU; equal within 2e-7."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = (2 * x).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(grad, ctx.saved_tensors[0])


class Tanh(nn.Module):
    """The hyperbolic tangent; for many numbers on a CPU, it is computed from the logistic function."""

    def forward(self, x: Tensor) -> Tensor:
        """Takes tensors of any shape."""
        if torch.compiler.is_exporting() or x.is_cuda or x.numel() < 8192:
            return torch.tanh(x)
        return _Tanh.apply(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}


DEEP_FROM = 36
"""Pixels of the shorter side from which on images go through three convolutions."""
WIDTHS = [64, 64]
"""Hidden layers where nothing else is asked for."""


def mlp(
    inputs: int,
    widths: Sequence[int],
    activation: str,
    *,
    layer_norm: bool = False,
    linear: type[nn.Linear] = nn.Linear,
) -> nn.Sequential:
    """Linear layers of the given widths, each followed by layer normalisation, if requested, and the activation."""
    layers: list[nn.Module] = []
    for width in widths:
        layers.append(linear(inputs, width))
        if layer_norm:
            layers.append(nn.LayerNorm(width))
        layers.append(ACTIVATIONS[activation]())
        inputs = width
    return nn.Sequential(*layers)


def init_orthogonal(module: nn.Module, gain: float = math.sqrt(2.0)) -> None:
    """Orthogonal weights and zero biases for every linear and convolutional layer in ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def in_bfloat16(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Wraps a function so that its layers multiply in bfloat16; its results, a tree of tensors, are float32."""

    def inner(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            out = function(*args, **kwargs)
        return tree_map(Tensor.float, out)

    return inner


class Encoder(nn.Module):
    """Turns observations into flat features. Subclasses set ``size``, the number of features."""

    size: int


class FlatEncoder(Encoder):
    """Flattens numbers and keeps their values."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        assert space.shape is not None
        self.dims = len(space.shape)
        self.size = int(np.prod(space.shape))

    def forward(self, obs: Tensor) -> Tensor:
        """(B, *O) to (B, size)."""
        if self.dims != 1:
            obs = obs.flatten(1) if self.dims else obs.unsqueeze(1)
        return obs if obs.dtype == torch.float32 else obs.to(torch.float32)


class OneHotEncoder(Encoder):
    """Categories as concatenated one-hot vectors."""

    offsets: Tensor  # (K,)

    def __init__(self, sizes: Sequence[int], starts: Sequence[int]) -> None:
        super().__init__()
        self.size = sum(sizes)
        offsets = np.cumsum([0, *sizes[:-1]]) - np.asarray(starts)
        self.register_buffer("offsets", torch.as_tensor(offsets, dtype=torch.int64), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        """(B, K) or (B,) integers to (B, size)."""
        index = obs.to(torch.int64).view(obs.shape[0], -1) + self.offsets
        return torch.zeros(obs.shape[0], self.size, device=obs.device).scatter_(1, index, 1.0)


class ImageEncoder(Encoder):
    """Convolutions over an image, channels first or last, see :func:`~rltrain.spaces.channels_first`.

    Images of at least :data:`DEEP_FROM` pixels use the network of Mnih et al. (2015), "Human-level control through deep
    reinforcement learning"; smaller ones use one 3x3 convolution, as in Young and Tian (2019), arXiv:1903.03176.
    """

    def __init__(self, space: spaces.Box, features: int | None = None, *, layer_norm: bool = False) -> None:
        super().__init__()
        first, middle, last = space.shape
        self.channels_last = not channels_first(space.shape)
        channels, height, width = (last, first, middle) if self.channels_last else (first, middle, last)
        self.scale = 1.0 / 255.0 if space.dtype == np.uint8 and space.high.max() > 1 else 1.0
        self.deep = min(height, width) >= DEEP_FROM
        if self.deep:
            convolutions = [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
            self.size = features or 512
        else:
            convolutions = [(16, min(3, height, width), 1)]
            self.size = features or 128
        layers: list[nn.Module] = []
        for filters, kernel, stride in convolutions:
            layers.append(nn.Conv2d(channels, filters, kernel, stride))
            channels, height, width = filters, (height - kernel) // stride + 1, (width - kernel) // stride + 1
            if layer_norm:
                layers.append(nn.LayerNorm((channels, height, width)))
            layers.append(nn.ReLU())
        dense = mlp(channels * height * width, [self.size], "relu", layer_norm=layer_norm)
        self.layers = nn.Sequential(*layers, nn.Flatten(), *dense)

    def forward(self, obs: Tensor) -> Tensor:
        """(B, H, W, C) or (B, C, H, W) to (B, size)."""
        obs = obs.to(torch.float32)
        if self.scale != 1.0:
            obs = obs * self.scale
        return self.layers(obs.permute(0, 3, 1, 2) if self.channels_last else obs)


class DictEncoder(Encoder):
    """Concatenates the features of all entries except the action mask."""

    def __init__(self, space: spaces.Dict, *, flatten: bool = False, layer_norm: bool = False) -> None:
        super().__init__()
        self.names = [name for name in space.spaces if name != MASK]
        parts = [make_encoder(space[name], flatten=flatten, layer_norm=layer_norm) for name in self.names]
        self.size = sum(part.size for part in parts)
        self.parts = nn.ModuleList(parts)

    def forward(self, obs: dict[str, Tensor]) -> Tensor:
        """Dict of (B, ...) to (B, size)."""
        features = [part(obs[name]) for name, part in zip(self.names, self.parts, strict=True)]
        return features[0] if len(features) == 1 else torch.cat(features, 1)


MOST_CHOICES = 2**20
"""Values of Discrete observations that a network may have an input for each: a layer of 64 takes 256 MiB then."""


def make_encoder(space: spaces.Space, *, flatten: bool = False, layer_norm: bool = False) -> Encoder:
    """The encoder for an observation space.

    Args:
        space: Space of a single observation.
        flatten: Flatten images instead of applying convolutions.
        layer_norm: Normalise the layers of image encoders.

    Raises:
        ConfigError: No encoder fits the space.
    """
    if isinstance(space, spaces.Dict):
        return DictEncoder(space, flatten=flatten, layer_norm=layer_norm)
    choices = int(space.n) if isinstance(space, spaces.Discrete) else 0
    if (choices := int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) else choices) > MOST_CHOICES:
        raise ConfigError(
            f"Observations of {type(space).__name__} with {choices:,} values would be as many inputs of the network.",
            "Describe the value by a few numbers, such as its digits, by gymnasium.wrappers.TransformObservation.",
        )
    if isinstance(space, spaces.Discrete):
        return OneHotEncoder([int(space.n)], [int(space.start)])
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return OneHotEncoder([int(n) for n in space.nvec], [int(start) for start in space.start])
    if isinstance(space, spaces.Box) and len(space.shape) == 3 and not flatten:
        return ImageEncoder(space, layer_norm=layer_norm)
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return FlatEncoder(space)
    raise ConfigError(
        f"There is no network for the observation space {space}.",
        "Use a Box, Discrete, MultiDiscrete or MultiBinary space, or a flat Dict of them.",
    )


def hidden_widths(asked_for: Sequence[int] | None, encoder: nn.Module) -> list[int]:
    """The widths of the hidden layers behind an encoder.

    Args:
        asked_for: Those of the configuration; None for the default: none behind the three convolutions of images,
            which end in a layer of their own, as in Stable-Baselines3's CnnPolicy, and :data:`WIDTHS` elsewhere.
        encoder: The encoder.
    """
    if asked_for is not None:
        return list(asked_for)
    return [] if isinstance(encoder, ImageEncoder) and encoder.deep else WIDTHS


def mask_logits(logits: Tensor, obs: Observation) -> Tensor:
    """Makes the logits of forbidden actions so low that these are never chosen.

    Huang and Ontañón (2022), arXiv:2006.14171. The logits of a row whose mask allows nothing stay as they are: such a
    mask is one of no choice, as at the end of an episode, and does not mean the first action.
    """
    if isinstance(obs, Tensor) or MASK not in obs:
        return logits
    forbidden = obs[MASK] == 0
    return logits.masked_fill(forbidden & ~forbidden.all(-1, keepdim=True), -1e8)


def without_choice(obs: Observation) -> Tensor | None:
    """(..., B, 1) bool, true where the mask allows nothing; None without a mask."""
    if isinstance(obs, Tensor) or MASK not in obs:
        return None
    return (obs[MASK] == 0).all(-1, keepdim=True)
