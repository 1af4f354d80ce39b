"""Adam over one flat tensor: one kernel for the step, one norm for clipping, one bucket to reduce."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

ALIGNMENT = 16  # elements; every parameter starts on a 64-byte boundary, as a tensor of its own would


class FlatAdam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on parameters laid end to end.

    The given parameters become views of one flat tensor, and their gradients views of another.

    Args:
        parameters: What to optimise, already on its device; trainable and of one dtype.
        eps: Added to the denominator.
        max_grad_norm: Gradients are scaled down to this norm; None for no clipping.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, eps: float, max_grad_norm: float | None) -> None:
        self.parameters = list(parameters)
        self.max_grad_norm = max_grad_norm
        starts, size = [], 0
        for parameter in self.parameters:
            starts.append(size)
            size += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        first = self.parameters[0]
        self.flat = nn.Parameter(torch.zeros(size, dtype=first.dtype, device=first.device))
        self.flat.grad = torch.zeros_like(self.flat)
        for parameter, start in zip(self.parameters, starts, strict=True):
            place = slice(start, start + parameter.numel())
            self.flat.data[place].copy_(parameter.data.flatten())
            parameter.data = self.flat.data[place].view_as(parameter)
            parameter.grad = self.flat.grad[place].view_as(parameter)
        # The fused kernel can be told on the device to skip a step; meta tensors have no kernels.
        self._adam = torch.optim.Adam([self.flat], eps=eps, fused=first.device.type != "meta")

    def step(
        self,
        loss: Tensor,
        learning_rate: float,
        *,
        reduce: Callable[[Tensor], Tensor],
        skip: Tensor | None = None,
    ) -> Tensor:
        """Differentiates ``loss`` and takes one step.

        Args:
            loss: 0-d.
            learning_rate: Step size.
            reduce: Mean of the gradient over ranks.
            skip: 0-d float32 on the device, 1 to leave parameters and moments as they are, 0 to step.

        Returns:
            The norm of the gradient before clipping, 0-d.
        """
        gradient = self.flat.grad
        assert gradient is not None
        gradient.zero_()
        loss.backward()
        reduced = reduce(gradient)
        if reduced is not gradient:
            gradient.copy_(reduced)
        norm = torch.linalg.vector_norm(gradient)
        if self.max_grad_norm is not None:
            gradient.mul_((self.max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
        self._adam.param_groups[0]["lr"] = learning_rate
        self._adam.found_inf = skip  # type: ignore[attr-defined]  # what torch.amp.GradScaler sets
        self._adam.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The moments and the step count."""
        return dict(self._adam.state.get(self.flat, {}))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        if state:
            adam = {"state": {0: state}, "param_groups": self._adam.state_dict()["param_groups"]}
            self._adam.load_state_dict(adam)
