"""One step of a differential equation, for batches."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def runge_kutta(rates: Callable[[Tensor], Tensor], y: Tensor, dt: Tensor) -> Tensor:
    """The classical fourth-order Runge-Kutta step.

    Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", 1993, table II.1.2.

    Args:
        rates: dy/dt (d, N) at y (d, N).
        y: (d, N), the quantities as rows.
        dt: 0-d or (N,), s.

    Returns:
        y (d, N) after ``dt``.
    """
    half = dt / 2
    k1 = rates(y)
    k2 = rates(y + half * k1)
    k3 = rates(y + half * k2)
    k4 = rates(y + dt * k3)
    return y + (dt / 6) * (k1 + k4 + 2 * (k2 + k3))
