"""Perceptrons with hand-written gradients, for losses that compute their own gradient.

Most networks in reinforcement learning are so small that a CPU spends more time in autograd's overhead per operation
than in the arithmetic: see ``docs/ablation.md``. Losses therefore compute their gradient with respect to the outputs of
a network, and :func:`evaluate` provides the backward pass from there. Networks of other kinds use :func:`by_autograd`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from rltrain.agents.parts.networks import Tanh
from rltrain.agents.parts.optim import grad_of
from rltrain.compiling import is_compiling

Back: TypeAlias = Callable[..., Tensor | None]
"""Maps gradients of a network's outputs to gradients of its parameters.

It either writes the gradients of the parameters and returns None, or returns a scalar to differentiate. The value of
this scalar means nothing; only its gradient counts.
"""


class Perceptron:
    """Layers of a network, applied one after another in the fastest way available.

    With autograd off, this takes few operations on a CPU if the layers are a ``Linear`` and then ``Linear``,
    ``LayerNorm``, ``ReLU``, ``SiLU`` and ``Tanh``, with no two activations in a row. Otherwise the layers are called.

    It is not a module: the layers belong to the network that made them. Their parameters may have a leading dimension
    K, ``weight`` (K, out, in) and ``bias`` (K, out). They then belong to K networks: x is (K, B, inputs), and each
    network is applied to its own part.

    Args:
        modules: Layers, possibly in ``Sequential``.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.layers = list(_unpacked(modules))
        self.links = _links(self.layers)
        self._parameters = [link.own for link in self.links if link.own]
        self._places: list[int] = []
        self._views: list[tuple[Any, ...]] = []

    def __call__(self, x: Tensor) -> Tensor:
        """(..., B, inputs) to (..., B, outputs)."""
        if not torch.is_grad_enabled() and fit(x, self):
            return self.forward(x, None, self.views())
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Sequence[Any]) -> Tensor:
        """(..., B, outputs) without a gradient. If there is a tape, what the backward pass needs is appended to it."""
        for link, own in zip(self.links, views, strict=True):
            x = link.forward(x, tape, own)
        return x

    def backward(self, grad: Tensor, tape: list[Tensor], views: Sequence[Any]) -> None:
        """Maps the gradient of the outputs (..., B, outputs) to the parameters, overwriting their ``grad``."""
        for i in range(len(views) - 1, -1, -1):
            grad = self.links[i].backward(grad, tape, not i, views[i])

    def views(self) -> Sequence[tuple[Any, ...]]:
        """The parameters as each link needs them, rebuilt only if they have moved in memory."""
        if is_compiling():
            return [link.views() for link in self.links]
        places = [own["weight"].data_ptr() for own in self._parameters]  # biases move with their weights
        if places != self._places or not places[0]:  # on the meta device all addresses are 0
            self._places, self._views = places, [link.views() for link in self.links]
        return self._views


def fit(x: Tensor, *perceptrons: Perceptron) -> bool:
    """Whether :meth:`Perceptron.forward` and :meth:`Perceptron.backward` can be used on x."""
    if x.requires_grad or (not x.is_meta and torch.is_autocast_enabled(x.device.type)):
        return False
    links = [each.links for each in perceptrons]
    return all(links) and [each[0].own["weight"].dim() for each in links] == [x.dim()] * len(links)


def evaluate(x: Tensor, *perceptrons: Perceptron) -> tuple[tuple[Tensor, ...], Back] | None:
    """The outputs of perceptrons for the same inputs, without a gradient, and the backward pass.

    None if their backward pass is not hand-written, see :class:`Perceptron`.
    """
    if not fit(x, *perceptrons):
        return None
    passes: list[tuple[Perceptron, list[Tensor], Sequence[Any]]] = [(each, [], each.views()) for each in perceptrons]

    def back(*grads: Tensor) -> None:
        for (each, tape, views), grad in zip(passes, grads, strict=True):
            each.backward(grad, tape, views)

    return tuple([each.forward(x, tape, views) for each, tape, views in passes]), back


def by_autograd(*outputs: Tensor) -> tuple[tuple[Tensor, ...], Back]:
    """The same as :func:`evaluate`, with autograd as the backward pass from the given outputs."""

    def back(*grads: Tensor) -> Tensor:
        return reduce(torch.add, [(output * grad).sum() for output, grad in zip(outputs, grads, strict=True)])

    return tuple(output.detach() for output in outputs), back


def _unpacked(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _unpacked(layer)
        else:
            yield layer


def _links(layers: Sequence[nn.Module]) -> list[Link]:
    """One link per layer, except that a tanh after a linear layer shares its link; none if a layer does not fit."""
    kinds = [type(layer) for layer in layers]
    known = all(kind in KINDS for kind in kinds) and kinds[:1] == [nn.Linear]
    in_turns = all(kind in AFFINE or before in AFFINE for before, kind in pairwise(kinds))
    if not known or not in_turns or any(None in layer._parameters.values() for layer in layers):
        return []
    links: list[Link] = []
    for layer in layers:
        if isinstance(layer, Tanh) and isinstance(links[-1], LinearLink):
            links[-1].tanh = True
        else:
            links.append(KINDS[type(layer)](layer))
    return links


class Link(ABC):
    """One layer. Activations overwrite their input, which nothing else needs.

    Attributes:
        own: The layer's parameters by name.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.own: dict[str, Any] = layer._parameters

    def views(self) -> tuple[Any, ...]:
        """The parameters as the other methods expect them."""
        return ()

    @abstractmethod
    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        """The outputs (..., B, outputs). If there is a tape, what the backward pass needs is appended to it."""

    @abstractmethod
    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        """Maps the gradient of the outputs to that of the inputs; removes its entries from the tape.

        The ``first`` link need not compute the gradient of its inputs, since they are observations.
        """


class LinearLink(Link):
    """W x + b, or tanh(W x + b)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.tanh = False
        # MKL takes as long for a product with few columns as for one with many; few rows do make it faster.
        self.few_inputs = 4 * layer.in_features <= layer.out_features
        self.few_outputs = 4 * layer.out_features <= layer.in_features

    def views(self) -> tuple[Any, ...]:
        """W, W^T, b as a column or as a row, and the two product functions: for one network, or for K."""
        weight, bias = self.own["weight"].detach(), self.own["bias"].detach()
        if weight.dim() == 2:
            return weight, weight.t(), bias.unsqueeze(1) if self.few_outputs else bias, torch.addmm, torch.mm
        return weight, weight.mT, bias.unsqueeze(2 if self.few_outputs else 1), torch.baddbmm, torch.bmm

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        weight, turned, bias, add, _ = views
        scale = 2 if self.tanh else 1
        if self.few_outputs:
            y = add(bias, weight, x.mT, beta=scale, alpha=scale).mT
        else:
            y = add(bias, x, turned, beta=scale, alpha=scale)
        if self.tanh:
            y = _tanh_of_half(y)
        if tape is not None:
            tape += (x, y) if self.tanh else (x,)
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        weight, _, _, _, multiply = views
        if self.tanh:
            grad = torch.ops.aten.tanh_backward(grad, tape.pop())
        x = tape.pop()
        torch.sum(grad, -2, out=grad_of(self.own["bias"]))
        if self.few_inputs:
            grad_of(self.own["weight"]).copy_(multiply(x.mT, grad).mT)
        else:
            multiply(grad.mT, x, out=grad_of(self.own["weight"]))
        return grad if first else multiply(grad, weight)


class LayerNormLink(Link):
    """Layer normalisation: Ba et al. (2016), arXiv:1607.06450."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__(layer)
        self.shape, self.eps = list(layer.normalized_shape), layer.eps

    def views(self) -> tuple[Any, ...]:
        """The weight and the bias."""
        return self.own["weight"].detach(), self.own["bias"].detach()

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        weight, bias = views
        if weight.dim() == 1:
            y, mean, scale = torch.native_layer_norm(x, self.shape, weight, bias, self.eps)
            kept = [x, mean, scale]
        else:
            normal, mean, scale = torch.native_layer_norm(x, self.shape, None, None, self.eps)
            y, kept = torch.addcmul(bias.unsqueeze(-2), normal, weight.unsqueeze(-2)), [x, mean, scale, normal]
        if tape is not None:
            tape += kept
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        weight, bias = views
        back = torch.ops.aten.native_layer_norm_backward
        if weight.dim() == 1:
            scale, mean, x = tape.pop(), tape.pop(), tape.pop()
            result, by_weight, by_bias = back(grad, x, self.shape, mean, scale, weight, bias, [True, True, True])
        else:
            normal, scale, mean, x = tape.pop(), tape.pop(), tape.pop(), tape.pop()
            by_weight, by_bias = (grad * normal).sum(1), grad.sum(1)
            grad = grad * weight.unsqueeze(-2)
            result = back(grad, x, self.shape, mean, scale, None, None, [True, False, False])[0]
        grad_of(self.own["weight"]).copy_(by_weight)
        grad_of(self.own["bias"]).copy_(by_bias)
        return result


class ReLULink(Link):
    """max(x, 0)."""

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        y = x.relu_()
        if tape is not None:
            tape.append(y)
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        return torch.ops.aten.threshold_backward(grad, tape.pop(), 0)


class SiLULink(Link):
    """x sigmoid(x)."""

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        if tape is not None:
            tape.append(x)
        return torch.ops.aten.silu(x)

    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        return torch.ops.aten.silu_backward(grad, tape.pop())


class TanhLink(Link):
    """A tanh that is not behind a linear layer."""

    def forward(self, x: Tensor, tape: list[Tensor] | None, views: Any) -> Tensor:
        y = _tanh_of_half(x.mul_(2))
        if tape is not None:
            tape.append(y)
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], first: bool, views: Any) -> Tensor:
        return torch.ops.aten.tanh_backward(grad, tape.pop())


def _tanh_of_half(x: Tensor) -> Tensor:
    """tanh(x / 2) = 2 sigmoid(x) - 1, which takes a quarter of the time on a CPU; equal within 2e-7. Overwrites x."""
    return torch.rsub(x.sigmoid_(), -1, alpha=-2)


AFFINE: tuple[type[nn.Module], ...] = (nn.Linear, nn.LayerNorm)
KINDS: dict[type[nn.Module], Any] = {
    nn.Linear: LinearLink,
    nn.LayerNorm: LayerNormLink,
    nn.ReLU: ReLULink,
    nn.SiLU: SiLULink,
    Tanh: TanhLink,
}
