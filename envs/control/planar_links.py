"""Equations of motion of rigid links that are joined to a tree in a plane, for batches.

The coordinates are the place of the centre of mass and the angle of every link against the world. The kinetic energy
then has no terms between the two, and its angular part depends on differences of angles alone:

    T = |v|^2 / 2 + sum_ij (G_ij cos(psi_i - psi_j) + I_i delta_ij) w_i w_j / 2

per kg of the whole, so the equations of motion (Lagrange's) are products with constant matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Link:
    """A rigid body, joined to the one that carries it. Places in the plane are complex numbers: x + iz."""

    parent: int  # number of the link that carries this one; -1 for the first, which carries all others
    joint: complex  # m, where the joint is, from the parent's own joint, with all angles 0; 0 for the first
    mass: float  # share of the whole mass
    center: complex  # m, where the centre of mass is, from the joint, with all angles 0
    gyration: float  # m, radius of gyration about the centre of mass


class PlanarLinks:
    """Links of a whole mass of 1 kg; with forces per kg, and lengths and torques scaled, they serve any size.

    Args:
        links: Parents before children.
        points: Places on links: the number of the link, and m from its joint with all angles 0.
        device: Device of the matrices.
        dtype: Their type.
    """

    def __init__(
        self,
        links: Sequence[Link],
        points: Sequence[tuple[int, complex]],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        # Row k: what each link adds to the way from the first joint to the centre of mass, or to a point, of link k.
        along = np.zeros((len(links), len(links)), dtype=complex)
        for k, link in enumerate(links):
            if link.parent >= 0:
                along[k] = along[link.parent]
                along[k, link.parent] += link.joint
        masses = np.array([link.mass for link in links])
        centers = along + np.diag([link.center for link in links])
        middle = masses @ centers
        centers, root = centers - middle, -middle
        spots = np.array([along[k] for k, _ in points]) - middle
        for row, (k, place) in zip(spots, points, strict=True):
            row[k] += place
        # All centres of mass move along with a link on one line through it; psi is the angle of that line.
        strongest = centers[np.abs(centers).argmax(0), np.arange(len(links))]
        turn = strongest / np.abs(strongest)
        lever = (centers / turn).real
        pulls = np.zeros((len(links) - 1, len(links)))
        for j, link in enumerate(links[1:]):
            pulls[j, j + 1], pulls[j, link.parent] = 1.0, -1.0

        def tensor(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=dtype).to(device)  # which may lack float64

        self.phases = tensor(np.angle(turn))  # (K,) rad
        self.coupling = tensor(lever.T @ (masses[:, None] * lever))  # (K, K) G, m^2
        self.inertia = tensor(np.diag(masses * np.array([link.gyration for link in links]) ** 2))  # (K, K) I, m^2
        self.pulls = tensor(pulls)  # (K - 1, K): from joint torques to links, from links to joint angles
        self.outer = tensor(np.einsum("ji,jk->jik", pulls, pulls).reshape(len(pulls), -1))  # (K - 1, K K)
        self._spots = self._levers(spots / turn, tensor)
        self._root = self._levers((root / turn)[None], tensor)

    @staticmethod
    def _levers(places: np.ndarray, tensor: object) -> tuple[Tensor, Tensor]:
        by_cos = np.concatenate((-places.imag, places.real))
        by_sin = np.concatenate((-places.real, -places.imag))
        return tensor(by_cos), tensor(by_sin)  # type: ignore[operator]

    def directions(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (N, K) of psi, from the links' angles (N, K)."""
        psi = angles + self.phases
        return psi.cos(), psi.sin()

    def mass_matrix(self, cos: Tensor, sin: Tensor) -> Tensor:
        """(N, K, K) m^2: of the angles, per kg."""
        lines = torch.stack((cos, sin), dim=-1)
        return torch.addcmul(self.inertia, self.coupling, lines @ lines.mT)

    def bias(self, cos: Tensor, sin: Tensor, rates: Tensor) -> Tensor:
        """(N, K) m^2/s^2: what turns the links while nothing acts on them, on the left of M w' + bias = torques."""
        squares = rates.square()
        summed = torch.stack((cos * squares, sin * squares), dim=1) @ self.coupling
        return sin * summed[:, 0] - cos * summed[:, 1]

    def point_jacobian(self, cos: Tensor, sin: Tensor) -> Tensor:
        """(N, 2 P, K) m: velocities of the points against the centre of mass by the rates; x of all, then z of all.

        What a link adds to the z of a point is minus what its rate adds to the x of the velocity, so the sum of the
        first P rows is minus the height above the centre of mass.
        """
        by_cos, by_sin = self._spots
        return torch.addcmul(by_cos * cos.unsqueeze(1), by_sin, sin.unsqueeze(1))

    def root(self, cos: Tensor, sin: Tensor) -> Tensor:
        """(N, 2) m: x and z of the first joint against the centre of mass."""
        by_cos, by_sin = self._root
        moved = cos @ by_cos.T + sin @ by_sin.T  # of a rate that all links share
        return torch.stack((moved[:, 1], -moved[:, 0]), dim=-1)
