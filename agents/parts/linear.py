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
AVAILABLE = (
    platform.machine() in ("x86_64", "AMD64")
    and torch.backends.mkldnn.is_available()
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # an operation of torch's own compiler
)


def enough_rows(weight: Tensor, *, turned: bool = False) -> float:
    """From how many rows on x (B, inputs) and ``weight`` (outputs, inputs) are to be multiplied by :func:`product`.

    Twice as many where both factors have to be turned first, as for the gradient of the weight.
    """
    fits = AVAILABLE and weight.device.type == "cpu" and weight.dtype == torch.float32
    return (1 + turned) * WORTH / weight.shape[-1] / weight.shape[-2] if fits else math.inf


def product(x: Tensor, y: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """By oneDNN x y^T + bias, of (M, K), (N, K) and (N,) float32 on the CPU; ``then`` may be ``tanh``."""
    if torch.compiler.is_compiling():
        return torch.ops.rltrain.product.default(x, y, bias, then)
    return torch.ops.mkldnn._linear_pointwise.default(x, y, bias, then, [], "")


# For torch.compile, which takes oneDNN's own operation for one of a constant y: the same under a name of ours.
_library = torch.library.Library("rltrain", "FRAGMENT")
_library.define("product(Tensor x, Tensor y, Tensor? bias, str then) -> Tensor")
_library.impl("product", product, "CPU")
_library.impl("product", lambda x, y, bias, then: x.new_empty(x.shape[0], y.shape[0]), "Meta")


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
        if much and not torch.is_autocast_enabled(x.device.type):
            return _Product.apply(x, self.weight, self.bias)
        return super().forward(x)
