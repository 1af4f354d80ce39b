"""Layers one after another with their gradient written out, for updates that autograd would take longest with.

On networks as small as most of reinforcement learning has, a CPU spends about as long in autograd's own work, node by
node, as in the arithmetic. What is written out here gives the same gradients, to the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rltrain.agents.networks import Tanh


class Chain:
    """A forward pass that remembers, and a backward pass that fills the ``grad`` of every parameter.

    Args:
        layers: ``Linear``, ``LayerNorm``, ``ReLU`` and ``Tanh``, possibly in ``Sequential``. Their parameters have a
            ``grad``, which is written over.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.layers = list(_unpacked(layers))
        self._kept: list[Any] = []

    @staticmethod
    def fits(layers: Iterable[nn.Module]) -> bool:
        """Whether all of these layers can be part of a chain."""
        return all(type(layer) in LAYERS for layer in _unpacked(layers))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        self._kept = []
        for layer in self.layers:
            x, kept = LAYERS[type(layer)][0](layer, x)
            self._kept.append(kept)
        return x

    @torch.no_grad()
    def backward(self, grad: Tensor) -> None:
        """From the gradient of the outputs (B, outputs) of the last forward pass to those of the parameters."""
        for layer, kept in zip(reversed(self.layers), reversed(self._kept), strict=True):
            grad = LAYERS[type(layer)][1](layer, kept, grad, layer is self.layers[0])


def _unpacked(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _unpacked(layer)
        else:
            yield layer


def _linear(layer: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.addmm(layer.bias, x, layer.weight.t()), x


def _linear_backward(layer: nn.Linear, x: Tensor, grad: Tensor, first: bool) -> Tensor:
    torch.mm(grad.t(), x, out=layer.weight.grad)
    torch.sum(grad, 0, out=layer.bias.grad)
    return grad if first else grad @ layer.weight  # nobody asks for the gradient of what is observed


def _layer_norm(layer: nn.LayerNorm, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    y, mean, rstd = torch.native_layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    return y, (x, mean, rstd)


def _layer_norm_backward(layer: nn.LayerNorm, kept: tuple[Tensor, ...], grad: Tensor, first: bool) -> Tensor:
    x, mean, rstd = kept
    grads = torch.ops.aten.native_layer_norm_backward(
        grad, x, layer.normalized_shape, mean, rstd, layer.weight, layer.bias, [True, True, True]
    )
    for parameter, new in zip((layer.weight, layer.bias), grads[1:], strict=True):
        assert parameter.grad is not None
        parameter.grad.copy_(new)
    return grads[0]


def _relu(layer: nn.ReLU, x: Tensor) -> tuple[Tensor, Tensor]:
    y = x.relu()
    return y, y


def _relu_backward(layer: nn.ReLU, y: Tensor, grad: Tensor, first: bool) -> Tensor:
    return torch.ops.aten.threshold_backward(grad, y, 0)


def _tanh(layer: Tanh, x: Tensor) -> tuple[Tensor, Tensor]:
    y = layer(x)
    return y, y


def _tanh_backward(layer: Tanh, y: Tensor, grad: Tensor, first: bool) -> Tensor:
    return torch.ops.aten.tanh_backward(grad, y)


LAYERS: dict[type[nn.Module], Any] = {
    nn.Linear: (_linear, _linear_backward),
    nn.LayerNorm: (_layer_norm, _layer_norm_backward),
    nn.ReLU: (_relu, _relu_backward),
    Tanh: (_tanh, _tanh_backward),
}
