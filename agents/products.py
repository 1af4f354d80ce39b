"""Products of matrices on a CPU, by whichever of torch's two libraries is the faster one.

Torch multiplies by MKL, which on processors that are not Intel's leaves half of their vector units idle. oneDNN, which
torch has for its convolutions, does not, but takes about 10 us to begin with. The results agree to the rounding.
"""

from __future__ import annotations

import math
import platform
from typing import Any

import torch
from torch import Tensor, nn

WORTH = 1_250_000
"""Multiplications of a product from which on oneDNN is the faster one."""
TURNED_WORTH = 2 * WORTH
"""The same, where both factors have to be transposed first."""
AVAILABLE = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # an operation of torch's own compiler
)


def enough_rows(weight: Tensor, worth: int = WORTH) -> float:
    """From how many rows on x (B, inputs) and ``weight`` (outputs, inputs) are to be multiplied by :func:`product`."""
    fits = AVAILABLE and weight.device.type == "cpu" and weight.dtype == torch.float32
    return worth / weight.shape[-1] / weight.shape[-2] if fits else math.inf


def product(x: Tensor, y: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """By oneDNN x y^T + bias, of (M, K), (N, K) and (N,) float32 on the CPU; ``then`` may be ``tanh``."""
    return torch.ops.mkldnn._linear_pointwise.default(x, y, bias, then, [], "")


class _Product(torch.autograd.Function):
    """A linear layer by oneDNN, both ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            product(grad, weight.t()) if wanted[0] else None,
            product(grad.t(), x.t()) if wanted[1] else None,
            grad.sum(0) if wanted[2] else None,
        )


class Linear(nn.Linear):
    """As torch's own, faster where there is much to multiply on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        much = x.dim() == 2 and x.dtype == torch.float32 and x.shape[0] >= enough_rows(self.weight)
        if much and not torch.compiler.is_compiling() and not torch.is_autocast_enabled(x.device.type):
            return _Product.apply(x, self.weight, self.bias)
        return super().forward(x)
