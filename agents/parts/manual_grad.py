"""Layers one after another with their gradient written out, for updates that autograd would take longest with.

On networks as small as most of reinforcement learning has, a CPU spends about as long in autograd's own work, node by
node, as in the arithmetic. What is written out here gives the same gradients, to the rounding.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rltrain.agents.parts.linear import Linear, enough_rows, product
from rltrain.agents.parts.networks import Tanh
from rltrain.agents.parts.optim import grad_of


class Chain:
    """A forward pass that remembers, and a backward pass that fills the ``grad`` of every parameter.

    Parameters with a leading dimension K, ``weight`` (K, out, in) and ``bias`` (K, out), are those of K networks: x is
    (K, B, inputs) then, and each network sees what is its own.

    Args:
        layers: ``Linear``, ``LayerNorm``, ``ReLU``, ``SiLU`` and ``Tanh``, possibly in ``Sequential``, such that
            :meth:`fits`. Their parameters have a ``grad``, which is written over; both stay where they are in memory.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        modules = list(_unpacked(layers))
        self.links: list[Link] = []
        for i, module in enumerate(modules):
            if isinstance(module, nn.Linear):
                kind = LinearLink if module.weight.dim() == 2 else StackedLinearLink
                before_tanh = isinstance(modules[i + 1] if i + 1 < len(modules) else None, Tanh)
                self.links.append(kind(module, TanhLink(doubled=True) if before_tanh else None, first=i == 0))
            elif isinstance(module, Tanh):
                if i == 0 or not isinstance(modules[i - 1], nn.Linear):
                    self.links.append(TanhLink(doubled=False))
            elif isinstance(module, nn.LayerNorm):
                self.links.append((LayerNormLink if module.weight.dim() == 1 else StackedLayerNormLink)(module))
            else:
                self.links.append(ReLULink() if isinstance(module, nn.ReLU) else SiLULink())

    @staticmethod
    def fits(layers: Iterable[nn.Module]) -> bool:
        """Whether these layers can be a chain: a ``Linear`` first, all of kinds that are known here."""
        kinds = [type(layer) for layer in _unpacked(layers)]
        linear = {nn.Linear, Linear}
        return bool(kinds) and kinds[0] in linear and set(kinds) <= linear | {nn.LayerNorm, nn.ReLU, nn.SiLU, Tanh}

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs), which have no gradient."""
        for link in self.links:
            x = link.forward(x)
        return x

    def backward(self, grad: Tensor) -> None:
        """From the gradient of the outputs (B, outputs) of the last forward pass to those of the parameters."""
        for link in reversed(self.links):
            grad = link.backward(grad)


def _unpacked(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _unpacked(layer)
        else:
            yield layer


class Link(ABC):
    """One layer of a chain. Activations write over what they are given, which nobody else needs."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The outputs; keeps what the way back needs."""

    @abstractmethod
    def backward(self, grad: Tensor) -> Tensor:
        """From the gradient of the outputs to that of the inputs."""


class LinearLink(Link):
    """y = W x + b, or the tanh of it.

    Args:
        layer: W and b.
        tanh: What comes next, if it is that. Often it can be had in the same operation.
        first: Whether nobody asks for the gradient of x, as it is what was observed.
    """

    def __init__(self, layer: nn.Linear, tanh: TanhLink | None, *, first: bool) -> None:
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.weight_grad, self.bias_grad = grad_of(layer.weight), grad_of(layer.bias)
        self.transposed = self.weight.mT
        self.tanh, self.first = tanh, first
        self.scale = 1 if tanh is None else 2
        # A product with few columns takes MKL the time of one with many; with few rows it does not.
        self.few_inputs = 4 * layer.in_features <= layer.out_features
        self.few_outputs = 4 * layer.out_features <= layer.in_features
        self.column = self.bias.unsqueeze(-1)
        self.many = enough_rows(self.weight)
        self.many_turned = math.inf if self.few_inputs or self.few_outputs else enough_rows(self.weight, turned=True)

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        if x.shape[-2] >= self.many:
            y = self._product(x, self.weight, self.bias, "none" if self.tanh is None else "tanh")
            if self.tanh is not None:
                self.tanh.y = y
            return y
        y = self._scaled(x)
        return y if self.tanh is None else self.tanh.forward(y)

    def backward(self, grad: Tensor) -> Tensor:
        if self.tanh is not None:
            grad = self.tanh.backward(grad)
        self._fill(grad, fast=grad.shape[-2] >= self.many_turned)
        if self.first:
            return grad
        return self._product(grad, self.transposed) if grad.shape[-2] >= self.many else grad @ self.weight

    def _product(self, x: Tensor, y: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
        return product(x, y, bias, then)

    def _scaled(self, x: Tensor) -> Tensor:
        """What comes before tanh is doubled: scale (W x + b)."""
        if self.few_outputs:
            return torch.addmm(self.column, self.weight, x.t(), beta=self.scale, alpha=self.scale).t()
        return torch.addmm(self.bias, x, self.transposed, beta=self.scale, alpha=self.scale)

    def _fill(self, grad: Tensor, *, fast: bool) -> None:
        """The gradients of W and b."""
        if fast:
            self.weight_grad.copy_(product(grad.t(), self.x.t()))
        elif self.few_inputs:
            self.weight_grad.copy_(torch.mm(self.x.t(), grad).t())
        else:
            torch.mm(grad.t(), self.x, out=self.weight_grad)
        torch.sum(grad, 0, out=self.bias_grad)


class StackedLinearLink(LinearLink):
    """The same of K networks at once."""

    def __init__(self, layer: nn.Linear, tanh: TanhLink | None, *, first: bool) -> None:
        super().__init__(layer, tanh, first=first)
        self.row = self.bias.unsqueeze(-2)

    def _product(self, x: Tensor, y: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
        each = [None] * len(y) if bias is None else bias
        return torch.stack([product(*one, then) for one in zip(x, y, each, strict=True)])

    def _scaled(self, x: Tensor) -> Tensor:
        if self.few_outputs:
            return torch.baddbmm(self.column, self.weight, x.mT, beta=self.scale, alpha=self.scale).mT
        return torch.baddbmm(self.row, x, self.transposed, beta=self.scale, alpha=self.scale)

    def _fill(self, grad: Tensor, *, fast: bool) -> None:
        if fast:
            for place, one, x in zip(self.weight_grad, grad, self.x, strict=True):
                place.copy_(product(one.t(), x.t()))
        else:
            product_ = torch.bmm(self.x.mT, grad).mT if self.few_inputs else torch.bmm(grad.mT, self.x)
            self.weight_grad.copy_(product_)
        torch.sum(grad, 1, out=self.bias_grad)


class LayerNormLink(Link):
    """Ba et al. (2016), arXiv:1607.06450."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        self.grads = grad_of(layer.weight), grad_of(layer.bias)
        self.shape, self.eps = list(layer.normalized_shape), layer.eps

    def forward(self, x: Tensor) -> Tensor:
        y, *self.moments = torch.native_layer_norm(x, self.shape, self.weight, self.bias, self.eps)
        self.x = x
        return y

    def backward(self, grad: Tensor) -> Tensor:
        result, *grads = torch.ops.aten.native_layer_norm_backward(
            grad, self.x, self.shape, *self.moments, self.weight, self.bias, [True, True, True]
        )
        for place, new in zip(self.grads, grads, strict=True):
            place.copy_(new)
        return result


class StackedLayerNormLink(LayerNormLink):
    """The same of K networks at once, each with a weight and a bias of its own."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__(layer)
        self.weight, self.bias = self.weight.unsqueeze(-2), self.bias.unsqueeze(-2)

    def forward(self, x: Tensor) -> Tensor:
        self.y, *self.moments = torch.native_layer_norm(x, self.shape, None, None, self.eps)
        self.x = x
        return torch.addcmul(self.bias, self.y, self.weight)

    def backward(self, grad: Tensor) -> Tensor:
        weight_grad, bias_grad = self.grads
        torch.sum(grad * self.y, 1, out=weight_grad)
        torch.sum(grad, 1, out=bias_grad)
        return torch.ops.aten.native_layer_norm_backward(
            grad * self.weight, self.x, self.shape, *self.moments, None, None, [True, False, False]
        )[0]


class ReLULink(Link):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        self.y = x.relu_()
        return self.y

    def backward(self, grad: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward(grad, self.y, 0)


class SiLULink(Link):
    """x sigmoid(x)."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return torch.ops.aten.silu(x)

    def backward(self, grad: Tensor) -> Tensor:
        return torch.ops.aten.silu_backward(grad, self.x)


class TanhLink(Link):
    """tanh(x) = 2 sigmoid(2x) - 1, which on a CPU takes a third of the time; equal within 2e-7.

    Args:
        doubled: Whether it is given 2x.
    """

    def __init__(self, *, doubled: bool) -> None:
        self.doubled = doubled

    def forward(self, x: Tensor) -> Tensor:
        share = (x if self.doubled else x.mul_(2)).sigmoid_()
        self.y = torch.rsub(share, -1, alpha=-2)
        return self.y

    def backward(self, grad: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(grad, self.y)
