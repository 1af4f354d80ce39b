"""Kinematics and dynamics of an arm with revolute joints in series, for batches.

The joints are given by Denavit and Hartenberg's parameters, and each link is a mass at a point, its centre.
Everything is in the frame of the base. Vectors of links are (N, K, 3), so sums along the arm are cumulative ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Pose:
    """Where an arm is. Link i turns about axis i."""

    rotations: Tensor  # (N, K, 3, 3) of the links' frames
    places: Tensor  # (N, K, 3) m, of the frames' origins; the last one is the tool's
    ways: Tensor  # (N, K, 3) m, from joint i to the origin of frame i
    axes: Tensor  # (N, K, 3) unit vectors
    centers: Tensor  # (N, K, 3) m, of mass, from the origin of the frame


class SerialArm:
    """An arm of K joints.

    Args:
        dh: (a in m, d in m, alpha in rad) of each joint; link i turns by its angle about z, is moved by d along z and
            by a along x, and turned by alpha about x (Spong, Hutchinson and Vidyasagar, "Robot Modeling and Control",
            2nd edition, 2020, equation 3.10).
        masses: kg, of each link.
        centers: m, the centre of mass of each link in its own frame.
        device: Device of the constants.
        dtype: Their type.
    """

    def __init__(
        self,
        dh: Sequence[tuple[float, float, float]],
        masses: Sequence[float],
        centers: Sequence[tuple[float, float, float]],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        a, d, alpha = np.array(dh).T
        cos, sin, zero, one = np.cos(alpha), np.sin(alpha), 0 * a, 0 * a + 1

        def tensor(values: object) -> Tensor:
            return torch.tensor(np.array(values, dtype=float), dtype=dtype).to(device)  # which may lack float64

        # Rz(q) Rx(alpha) = cos(q) by_cos + sin(q) by_sin + constant
        by_cos = np.array(((one, zero, zero), (zero, cos, -sin), (zero, zero, zero)))
        by_sin = np.array(((zero, -cos, sin), (one, zero, zero), (zero, zero, zero)))
        constant = np.array(((zero, zero, zero), (zero, zero, zero), (zero, sin, cos)))
        self._turns = [tensor(part.transpose(2, 0, 1)) for part in (by_cos, by_sin, constant)]
        ways, axes = np.stack((a, d * sin, d * cos), -1), np.stack((zero, sin, cos), -1)
        self._own = tensor(np.stack((ways, axes, np.array(centers)), -1))  # (K, 3, 3): columns, in frame i
        self._weights = tensor(np.tril(np.ones((len(a), len(a)))) * np.sqrt(masses)[:, None])[..., None]
        self.joints = len(a)

    def pose(self, angles: Tensor) -> Pose:
        """Forward kinematics of the joints' angles (N, K), rad."""
        by_cos, by_sin, constant = self._turns
        cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
        turns = torch.addcmul(torch.addcmul(constant, by_cos, cos), by_sin, sin).unbind(1)
        rotations = [turns[0]]
        for turn in turns[1:]:
            rotations.append(rotations[-1] @ turn)
        stacked = torch.stack(rotations, dim=1)
        ways, axes, centers = (stacked @ self._own).unbind(-1)
        return Pose(stacked, ways.cumsum(1), ways, axes, centers)

    def jacobian(self, pose: Pose) -> Tensor:
        """(N, 6, K): the tool's velocity (m/s), above its angular velocity (rad/s), by the joints' rates."""
        to_tool = pose.places[:, -1:] - pose.places + pose.ways
        return torch.cat((torch.linalg.cross(pose.axes, to_tool), pose.axes), dim=-1).mT

    def equations(self, pose: Pose, rates: Tensor, gravity: Tensor) -> tuple[Tensor, Tensor]:
        """Mass matrix (N, K, K) in kg m^2 and bias (N, K) in N m, of ``M q'' + bias = torques``.

        Kane's form: a link's acceleration at q'' = 0, projected on how each joint moves it.

        Args:
            pose: Where the arm is.
            rates: (N, K) rad/s, of the joints.
            gravity: (3,) or (N, 1, 3) m/s^2, the acceleration of free fall.
        """
        from_joint = (pose.places + pose.centers).unsqueeze(2) - (pose.places - pose.ways).unsqueeze(1)
        levers = torch.linalg.cross(pose.axes.unsqueeze(1), from_joint) * self._weights  # (N, link, joint, 3)
        moves = levers.transpose(2, 3).flatten(1, 2)  # (N, 3 K, K), by the roots of the masses
        turning = pose.axes * rates.unsqueeze(-1)
        spin = turning.cumsum(1)
        twist = torch.linalg.cross(spin, turning).cumsum(1)  # rad/s^2
        parts = torch.stack((pose.ways, pose.centers), dim=2)
        spin, twist = spin.unsqueeze(2), twist.unsqueeze(2)
        pulls = torch.linalg.cross(twist, parts) + torch.linalg.cross(spin, torch.linalg.cross(spin, parts))
        along, own = pulls.unbind(2)
        weighted = (along.cumsum(1) + own - gravity) * self._weights[:, 0]
        bias = (weighted.flatten(1).unsqueeze(1) @ moves).squeeze(1)
        return moves.mT @ moves, bias


def rotation_between(wanted: Tensor, rotation: Tensor) -> Tensor:
    """Rotation vectors (N, 3), rad, that turn ``rotation`` into ``wanted``, both (N, 3, 3), about fixed axes.

    Siciliano et al., "Robotics: Modelling, Planning and Control", 2009, equations 2.27 and 3.84. At half a turn
    exactly, where the cross products tell no axis, it is 0.
    """
    sines = torch.linalg.cross(rotation, wanted, dim=-2).sum(-1) / 2
    cosine = ((rotation * wanted).sum((-2, -1)) - 1) / 2
    sine = sines.square().sum(-1).clamp(min=1e-12).sqrt()
    return sines * (torch.atan2(sine, cosine) / sine).unsqueeze(-1)
