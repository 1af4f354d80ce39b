"""Impulses of points on a ground with Coulomb friction, for batches."""

from __future__ import annotations

import torch
from torch import Tensor

RELAXATION = 1.7


def contact_impulses(
    response: Tensor, approach: Tensor, closed: Tensor, friction: Tensor, guess: Tensor, iterations: int
) -> Tensor:
    """Impulses that soft contacts give in one step of time, by projected Jacobi iteration.

    They solve, row by row, ``response @ x + approach = 0`` with normal impulses of at least 0 and tangential ones of at
    most ``friction`` times the normal one: Anitescu and Potra's step ("Formulating dynamic multi-rigid-body contact
    problems with friction", 1997) with compliance on the diagonal, solved as in Tasora and Anitescu, "A matrix-free
    cone complementarity approach for solving large-scale, nonsmooth, rigid body dynamics", 2011, section 5. A row's
    step is ``RELAXATION`` by the sum of the absolute values in the row: below 2 it converges (Gershgorin's bound on the
    eigenvalues). However few the iterations, what is returned pushes only, and obeys the friction cone.

    Args:
        response: (N, 2 P, 2 P) 1/kg, symmetric: velocities that impulses give to the points; tangential rows first.
        approach: (N, 2 P) m/s: velocities without impulses, and what the compliance adds to them.
        closed: (N, P) 1 where a point touches, 0 elsewhere.
        friction: 0-d or (N, 1, 1), the coefficient of friction.
        guess: (N, 2 P, 1) N s, from the step before.
        iterations: How many.

    Returns:
        (N, 2 P, 1) N s, 0 where a point does not touch.
    """
    touches = torch.cat((closed, closed), dim=1).unsqueeze(-1)
    scale = RELAXATION * touches / response.abs().sum(-1, keepdim=True)
    constant = scale * approach.unsqueeze(-1)
    unit = torch.eye(response.shape[-1], device=response.device, dtype=response.dtype)
    rows = torch.addcmul(unit, scale, response, value=-1)
    x = guess * touches
    for _ in range(iterations):
        tangential, normal = torch.baddbmm(constant, rows, x, beta=-1).chunk(2, dim=1)
        normal = normal.relu()
        limit = friction * normal
        x = torch.cat((tangential.clamp(-limit, limit), normal), dim=1)
    return x
