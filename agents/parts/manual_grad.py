"""Perceptrons with their gradient written out, and losses that say their gradient themselves.

On networks as small as most of reinforcement learning has, a CPU spends longer in autograd's own work, operation by
operation, than in the arithmetic: see ``docs/ablation.md``. Losses therefore give their gradient with respect to what a
network says, and :func:`evaluate` has the way back from there: written out, or by autograd for networks of other kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from rltrain.agents.parts.networks import Tanh
from rltrain.agents.parts.optim import grad_of

Back: TypeAlias = Callable[..., Tensor | None]
"""From the gradients of a network's outputs to those of its parameters.

They are in place afterwards, and the result is None. Or they are not yet, and the result is a scalar to differentiate:
its value means nothing, its gradient is the one in question.
"""


class Perceptron:
    """Layers of a network one after another, evaluated in the shortest way that there is for them.

    Without autograd that is in few operations on a CPU: ``Linear`` first, then ``Linear``, ``LayerNorm``, ``ReLU``,
    ``SiLU`` and ``Tanh``, no activation right after another. Elsewhere the layers are called.

    It is no module: the layers belong to the network that made them. Their parameters may have a leading dimension K,
    ``weight`` (K, out, in) and ``bias`` (K, out), and are those of K networks then: x is (K, B, inputs), and each network
    sees what is its own.

    Args:
        modules: Layers, possibly in ``Sequential``.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.layers = list(_unpacked(modules))
        self.links = _links(self.layers)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., B, inputs) to (..., B, outputs)."""
        if not torch.is_grad_enabled() and self.fits(x):
            return self.forward(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def fits(self, x: Tensor) -> bool:
        """Whether :meth:`forward` and :meth:`backward` can be used."""
        known = self.links and x.dim() == self.links[0].own["weight"].dim() and not x.requires_grad
        return bool(known) and (x.is_meta or not torch.is_autocast_enabled(x.device.type))

    def forward(self, x: Tensor, tape: list[Tensor] | None = None) -> Tensor:
        """(..., B, outputs) without a gradient. What the way back needs is put on the tape, if there is one."""
        for link in self.links:
            x = link.forward(x, tape)
        return x

    def backward(self, grad: Tensor, tape: list[Tensor]) -> None:
        """From the gradient of the outputs (..., B, outputs) to the ``grad`` of the parameters, which is written over."""
        for link in reversed(self.links):
            grad = link.backward(grad, tape, first=link is self.links[0])


def evaluate(x: Tensor, *perceptrons: Perceptron) -> tuple[tuple[Tensor, ...], Back] | None:
    """The outputs of perceptrons on the same inputs, without a gradient, and the way back; None if that is not written."""
    if not all(each.fits(x) for each in perceptrons):
        return None
    tapes: list[list[Tensor]] = [[] for _ in perceptrons]

    @torch.no_grad()
    def back(*grads: Tensor) -> None:
        for each, grad, tape in zip(perceptrons, grads, tapes, strict=True):
            each.backward(grad, tape)

    with torch.no_grad():
        return tuple(each.forward(x, tape) for each, tape in zip(perceptrons, tapes, strict=True)), back


def by_autograd(*outputs: Tensor) -> tuple[tuple[Tensor, ...], Back]:
    """What :func:`evaluate` gives, from outputs that autograd knows the way back from."""

    def back(*grads: Tensor) -> Tensor:
        return torch.stack([(output * grad).sum() for output, grad in zip(outputs, grads, strict=True)]).sum()

    return tuple(output.detach() for output in outputs), back


def _unpacked(layers: Iterable[nn.Module]) -> Iterable[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _unpacked(layer)
        else:
            yield layer


def _links(layers: Sequence[nn.Module]) -> list[Link]:
    """One for each layer, but a tanh behind a linear layer shares its; none at all where they do not fit together."""
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
    """One layer. Activations write over what they are given, which nobody else needs.

    Attributes:
        own: The layer's parameters by name. They are looked up anew in every call: others may take their place.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.own: dict[str, Any] = layer._parameters

    @abstractmethod
    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        """The outputs (..., B, outputs). What the way back needs is put on the tape, if there is one."""

    @abstractmethod
    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        """From the gradient of the outputs to that of the inputs; takes its part off the tape.

        Of the ``first`` link nobody asks for the latter, as they are what was observed.
        """


class LinearLink(Link):
    """W x + b, or the tanh of it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.tanh = False
        # A product with few columns takes MKL the time of one with many; with few rows it does not.
        self.few_inputs = 4 * layer.in_features <= layer.out_features
        self.few_outputs = 4 * layer.out_features <= layer.in_features
        self._place = 0
        self._views: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        y = self._affine(x, 2 if self.tanh else 1)
        if self.tanh:
            y = _tanh_of_half(y)
        if tape is not None:
            tape += (x, y) if self.tanh else (x,)
        return y

    def _affine(self, x: Tensor, scale: int) -> Tensor:
        """scale (W x + b)."""
        weight, bias = self.own["weight"], self.own["bias"]
        turned, column, row = self._turned(weight, bias)
        add = torch.addmm if weight.dim() == 2 else torch.baddbmm
        if self.few_outputs:
            return add(column, weight, x.mT, beta=scale, alpha=scale).mT
        return add(row, x, turned, beta=scale, alpha=scale)

    def _turned(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """W^T, and b as a column and as a row. They are views, made anew only where the parameters have moved."""
        if torch.compiler.is_compiling():
            return weight.mT, bias.unsqueeze(-1), bias.unsqueeze(-2) if bias.dim() > 1 else bias
        if self._views is None or self._place != weight.data_ptr():
            w, b = weight.detach(), bias.detach()
            self._place, self._views = w.data_ptr(), (w.mT, b.unsqueeze(-1), b.unsqueeze(-2) if b.dim() > 1 else b)
        return self._views

    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        if self.tanh:
            grad = torch.ops.aten.tanh_backward(grad, tape.pop())
        x, weight, bias = tape.pop(), self.own["weight"], self.own["bias"]
        torch.sum(grad, -2, out=grad_of(bias))
        place = grad_of(weight)
        if self.few_inputs:
            place.copy_((x.mT @ grad).mT)
        else:
            (torch.mm if place.dim() == 2 else torch.bmm)(grad.mT, x, out=place)
        return grad if first else grad @ weight


class LayerNormLink(Link):
    """Ba et al. (2016), arXiv:1607.06450."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__(layer)
        self.shape, self.eps = list(layer.normalized_shape), layer.eps

    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        weight, bias = self.own["weight"], self.own["bias"]
        if weight.dim() == 1:
            y, mean, scale = torch.native_layer_norm(x, self.shape, weight, bias, self.eps)
            kept = (x, mean, scale)
        else:
            normal, mean, scale = torch.native_layer_norm(x, self.shape, None, None, self.eps)
            y, kept = torch.addcmul(bias.unsqueeze(-2), normal, weight.unsqueeze(-2)), (x, mean, scale, normal)
        if tape is not None:
            tape += kept
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        weight, bias = self.own["weight"], self.own["bias"]
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

    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        y = x.relu_()
        if tape is not None:
            tape.append(y)
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        return torch.ops.aten.threshold_backward(grad, tape.pop(), 0)


class SiLULink(Link):
    """x sigmoid(x)."""

    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        if tape is not None:
            tape.append(x)
        return torch.ops.aten.silu(x)

    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        return torch.ops.aten.silu_backward(grad, tape.pop())


class TanhLink(Link):
    """A tanh that is not behind a linear layer."""

    def forward(self, x: Tensor, tape: list[Tensor] | None) -> Tensor:
        y = _tanh_of_half(x.mul_(2))
        if tape is not None:
            tape.append(y)
        return y

    def backward(self, grad: Tensor, tape: list[Tensor], *, first: bool) -> Tensor:
        return torch.ops.aten.tanh_backward(grad, tape.pop())


def _tanh_of_half(x: Tensor) -> Tensor:
    """tanh(x / 2) = 2 sigmoid(x) - 1, which on a CPU takes a quarter of the time; equal within 2e-7. Writes over x."""
    return torch.rsub(x.sigmoid_(), -1, alpha=-2)


AFFINE: tuple[type[nn.Module], ...] = (nn.Linear, nn.LayerNorm)
KINDS: dict[type[nn.Module], Any] = {
    nn.Linear: LinearLink,
    nn.LayerNorm: LayerNormLink,
    nn.ReLU: ReLULink,
    nn.SiLU: SiLULink,
    Tanh: TanhLink,
}


Chain = Perceptron  # the name that DQN knows
