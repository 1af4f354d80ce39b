"""Adam over one flat tensor: one kernel for the step, one norm for clipping, one bucket to reduce."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from rltrain.compiling import is_compiling
from rltrain.devices import statistics_dtype

FUSED_ADAM = getattr(torch, "_fused_adam_", None)  # private, so it may be missing
BETA_1, BETA_2 = 0.9, 0.999
MOMENTS = ("exp_avg", "exp_avg_sq")
"""The names of the two moments in a checkpoint, as in torch.optim.Adam."""
ALIGNMENT = 16  # elements; every parameter starts on a 64-byte boundary, as a tensor of its own would


def lay_flat(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Makes parameters of one type and device views of one new tensor (size,) and returns it; gaps are zero."""
    starts, size = [], 0
    for parameter in parameters:
        starts.append(size)
        size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
    flat = torch.zeros(size, dtype=parameters[0].dtype, device=parameters[0].device)
    for parameter, start in zip(parameters, starts, strict=True):
        place = flat[start : start + parameter.numel()]
        place.copy_(parameter.data.flatten())
        parameter.data = place.view_as(parameter)
    return flat


class FlatAdam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on parameters in one flat tensor.

    The given parameters become views of one flat tensor, and their gradients views of another.

    Args:
        parameters: Parameters to optimise, already on their device; trainable and of one dtype.
        eps: Added to the denominator.
        max_grad_norm: Gradients are scaled down to this norm; None for no clipping.

    Attributes:
        factors: (size,) what the step of each number is multiplied by; None if all take the whole step.
        frozen: (size,) bool, true where that is 0; None if it is nowhere.
        moments: (size,) each, those of :data:`MOMENTS`.
    """

    factors: Tensor | None = None
    frozen: Tensor | None = None
    held: Tensor | None = None  # (size,) the factors to go back to, while some parameters are held

    def __init__(self, parameters: Iterable[nn.Parameter], *, eps: float, max_grad_norm: float | None) -> None:
        self.parameters = list(parameters)
        self.eps = eps
        self.max_grad_norm = max_grad_norm
        flat = lay_flat(self.parameters)
        self.starts = [parameter.storage_offset() for parameter in self.parameters]
        # On the meta device zeros_like would import sympy, for half a second.
        grad, exp_avg, exp_avg_sq = (torch.zeros(flat.shape, dtype=flat.dtype, device=flat.device) for _ in range(3))
        self.settle(flat, grad, exp_avg, exp_avg_sq, torch.zeros((), device=flat.device))

    def settle(self, flat: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, steps: Tensor) -> None:
        """Adopts these tensors, (size,) each and the 0-d number of steps; the parameters become views of them."""
        self.flat = nn.Parameter(flat)
        self.flat.grad = grad
        self.moments = exp_avg, exp_avg_sq
        self._steps = steps
        for parameter, start in zip(self.parameters, self.starts, strict=True):
            place = slice(start, start + parameter.numel())
            parameter.data, parameter.grad = flat[place].view_as(parameter), grad[place].view_as(parameter)

    def scale_steps(self, factors: Mapping[int, float]) -> None:
        """Gives some parameters smaller or larger steps than the others; with 0 they stay exactly as they are.

        Args:
            factors: By the number of the parameter in ``parameters``, what its steps are multiplied by. The gradients
                of those that stay as they are do not count in the norm that is clipped.
        """
        scale = torch.ones_like(self.flat.data)
        for number, factor in factors.items():
            start = self.starts[number]
            scale[start : start + self.parameters[number].numel()] = factor
        self.factors = scale
        self.frozen = scale == 0 if 0.0 in factors.values() else None

    def hold(self, numbers: Iterable[int]) -> None:
        """Keeps some parameters as they are until :meth:`release`, while their moments follow their gradients.

        The factors change in place, so a graph of the step that was recorded before stays valid.

        Args:
            numbers: Their numbers in ``parameters``.
        """
        if self.factors is None:
            self.factors = torch.ones_like(self.flat.data)
        self.held = self.factors.clone()
        for number in numbers:
            start = self.starts[number]
            self.factors[start : start + self.parameters[number].numel()] = 0.0

    def release(self) -> None:
        """Lets the parameters that are held take steps again."""
        if self.held is not None and self.factors is not None:
            self.factors.copy_(self.held)
            self.held = None

    def step(
        self,
        loss: Tensor | None,
        learning_rate: float | Tensor,
        *,
        reduce: Callable[[Tensor], Tensor],
        skip: Tensor | None = None,
    ) -> Tensor:
        """Differentiates ``loss`` and takes one step.

        Args:
            loss: 0-d; None if the gradients are already in place.
            learning_rate: Step size; a 0-d tensor on the device if it changes within a CUDA graph.
            reduce: Mean of the gradient over ranks.
            skip: 0-d float32 on the device, 1 to leave parameters and moments as they are, 0 to step.

        Returns:
            The norm of the gradient before clipping, 0-d.
        """
        gradient = self.flat.grad
        assert gradient is not None
        if loss is not None:
            gradient.zero_()
            loss.backward()
        reduced = reduce(gradient)
        if reduced is not gradient:
            gradient.copy_(reduced)
        if self.frozen is not None:
            gradient.masked_fill_(self.frozen, 0.0)
        norm = torch.linalg.vector_norm(gradient)
        self.advance(learning_rate, self.scale_of(norm), skip)
        return norm

    def scale_of(self, norm: Tensor) -> Tensor | None:
        """The divisor that clips a gradient with this norm; None for no clipping."""
        return None if self.max_grad_norm is None else ((norm + 1e-6) / self.max_grad_norm).clamp_(min=1.0)

    def advance(self, learning_rate: float | Tensor, scale: Tensor | None, skip: Tensor | None) -> None:
        """Takes one step along the current gradient, divided by ``scale``; see :meth:`step`."""
        if self.factors is None:
            self._adam(learning_rate, scale, skip)
            return
        before = self.flat.data.clone()
        self._adam(learning_rate, scale, skip)
        self.flat.data.copy_(before.lerp_(self.flat.data, self.factors))

    def _adam(self, learning_rate: float | Tensor, scale: Tensor | None, skip: Tensor | None) -> None:
        # The kernel behind torch.optim.Adam(fused=True), which can skip a step by a flag on the device. Calling it
        # directly saves more time in Python than the step itself takes. It also saves seconds at the start, because
        # the class imports torch's compiler.
        if FUSED_ADAM is None or is_compiling():
            self._adam_by_operations(learning_rate, scale, skip)
            return
        self._steps.add_(1.0)
        FUSED_ADAM(
            [self.flat.data],
            [grad_of(self.flat)],
            [self.moments[0]],
            [self.moments[1]],
            [],
            [self._steps],
            lr=learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=scale,  # the gradient is divided by this
            found_inf=skip,
        )
        if skip is not None:
            self._steps.sub_(skip)

    @torch.no_grad()
    def _adam_by_operations(self, learning_rate: float | Tensor, scale: Tensor | None, skip: Tensor | None) -> None:
        """What the kernel does, in operations that a compiler makes one loop of."""
        grad, (exp_avg, exp_avg_sq) = grad_of(self.flat), self.moments
        if scale is not None:
            grad.div_(scale)
        steps = self._steps + (1.0 if skip is None else 1.0 - skip)
        exact = steps.to(statistics_dtype(steps.device))
        share_1, share_2 = ((1.0 - beta**exact).to(steps.dtype) for beta in (BETA_1, BETA_2))
        first = exp_avg.lerp(grad, 1.0 - BETA_1)
        second = exp_avg_sq * BETA_2 + grad * grad * (1.0 - BETA_2)
        after = self.flat - learning_rate / share_1 * first / (second.sqrt() / share_2.sqrt() + self.eps)
        for place, value in ((self.flat, after), (exp_avg, first), (exp_avg_sq, second)):
            place.copy_(value if skip is None else torch.where(skip > 0, place, value))
        self._steps.copy_(steps)

    def state_dict(self) -> dict[str, Tensor]:
        """The moments and the step count, named as in torch.optim.Adam."""
        return {**dict(zip(MOMENTS, self.moments, strict=True)), "step": self._steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


class StackedAdam:
    """K optimizers of networks of the same shape, whose tensors become rows of shared tensors (K, size).

    Each row has its own norm, clipping and step count, as if it were alone.

    Args:
        optimizers: They remain usable, and can continue separately from where this one stops.
    """

    def __init__(self, optimizers: Sequence[FlatAdam]) -> None:
        self.optimizers = optimizers
        rows = [(each.flat.data, grad_of(each.flat), *each.state_dict().values()) for each in optimizers]
        self.stacks = [torch.stack(tensors) for tensors in zip(*rows, strict=True)]
        for each, *tensors in zip(optimizers, *self.stacks, strict=True):
            each.settle(*tensors)

    def view(self, number: int, ones: int = 0) -> nn.Parameter:
        """Parameter ``number`` of all networks with its gradient: (K, *ones, *shape), where ``ones`` counts 1s."""
        one = self.optimizers[0]
        own, start = one.parameters[number].shape, one.starts[number]
        shape = torch.Size((*(1,) * ones, *own))
        values, gradient = (stack[:, start : start + shape.numel()].unflatten(1, shape) for stack in self.stacks[:2])
        parameter = nn.Parameter(values)
        parameter.grad = gradient
        return parameter

    def step(
        self,
        loss: None,
        learning_rate: float | Tensor,
        *,
        reduce: Callable[[Tensor], Tensor],
        skip: Tensor | None = None,
    ) -> Tensor:
        """Does :meth:`FlatAdam.step` for each, with gradients already in place; ``skip`` and the norms are (K,)."""
        gradients = reduce(self.stacks[1])
        frozen = self.optimizers[0].frozen
        if frozen is not None:
            gradients.masked_fill_(frozen, 0.0)
        norms = torch.linalg.vector_norm(gradients, dim=1)
        scales, nothing = self.optimizers[0].scale_of(norms), [None] * len(norms)
        each_scale = nothing if scales is None else scales.unbind()
        each_skip = nothing if skip is None else skip.unbind()
        for optimizer, scale, skipped in zip(self.optimizers, each_scale, each_skip, strict=True):
            optimizer.advance(learning_rate, scale, skipped)
        return norms


def grad_of(parameter: Tensor) -> Tensor:
    """The tensor that holds the gradient of a parameter; if there is none yet, zeros are allocated."""
    grad = parameter.grad
    if grad is None:
        grad = parameter.grad = torch.zeros_like(parameter)
    return grad
