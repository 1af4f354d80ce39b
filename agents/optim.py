"""Adam over one flat tensor: one kernel for the step, one norm for clipping, one bucket to reduce."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

ALIGNMENT = 16  # elements; every parameter starts on a 64-byte boundary, as a tensor of its own would


def lay_flat(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Makes parameters of one type and device views of one new tensor (size,), which is returned; gaps are zero."""
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
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) on parameters laid end to end.

    The given parameters become views of one flat tensor, and their gradients views of another.

    Args:
        parameters: What to optimise, already on its device; trainable and of one dtype.
        eps: Added to the denominator.
        max_grad_norm: Gradients are scaled down to this norm; None for no clipping.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, eps: float, max_grad_norm: float | None) -> None:
        self.parameters = list(parameters)
        self.eps = eps
        self.max_grad_norm = max_grad_norm
        self.flat = nn.Parameter(lay_flat(self.parameters))
        self.flat.grad = torch.zeros_like(self.flat)
        for parameter in self.parameters:
            start = parameter.storage_offset()
            parameter.grad = self.flat.grad[start : start + parameter.numel()].view_as(parameter)
        self._moments = torch.zeros_like(self.flat.data), torch.zeros_like(self.flat.data)
        self._steps = torch.zeros((), device=self.flat.device)

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
            loss: 0-d; None where the gradients are in place already.
            learning_rate: Step size; a 0-d tensor on the device where it changes within a CUDA graph.
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
        norm = torch.linalg.vector_norm(gradient)
        scale = None if self.max_grad_norm is None else ((norm + 1e-6) / self.max_grad_norm).clamp_(min=1.0)
        # The kernel behind torch.optim.Adam(fused=True), which is what can be told on the device to skip a
        # step. Calling it directly saves more Python per step than the step costs, and a start-up of seconds:
        # the class imports torch's compiler.
        self._steps.add_(1.0)
        torch._fused_adam_(
            [self.flat.data],
            [gradient],
            [self._moments[0]],
            [self._moments[1]],
            [],
            [self._steps],
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
            grad_scale=scale,  # which the gradient is divided by
            found_inf=skip,
        )
        if skip is not None:
            self._steps.sub_(skip)
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """The moments and the step count, by the names of torch.optim.Adam."""
        return {"exp_avg": self._moments[0], "exp_avg_sq": self._moments[1], "step": self._steps}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Puts back what :meth:`state_dict` gave."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
