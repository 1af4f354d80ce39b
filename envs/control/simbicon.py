"""SIMBICON for a planar biped: torques from two poses of either leg in turn and a feedback of balance, for batches.

Yin, Loken and van de Panne, "SIMBICON: Simple Biped Locomotion Control", 2007, sections 3 and 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Found by the cross-entropy method on the walker with its default constants, from the authors' numbers for walking.
LIFT = 0.22  # s, until the swinging leg is put down
# rad: swinging hip (against upright), knee and ankle; bearing knee and ankle; then the feedback of place and of speed.
UP = (0.33, -1.37, 0.58, -0.03, 0.57, 0.12, 0.17)
DOWN = (-0.35, -0.17, 0.24, -0.32, 0.28, 0.51, 0.09)
STIFFNESS = (7.4, 4.4, 2.25)  # N m/rad per kg of the walker, of hip, knee and ankle
DAMPING = (0.57, 0.18, 0.087)  # N m s/rad per kg


def simbicon(
    angles: Tensor, rates: Tensor, *, right_bears: Tensor, since: Tensor, ahead: Tensor, speed: Tensor
) -> Tensor:
    """Torques by the walker's mass.

    Args:
        angles: (N, 7) rad, of trunk, left thigh, shank, foot, and the right ones, against upright.
        rates: (N, 7) rad/s.
        right_bears: (N,) bool, whether the right foot bears and the left leg swings.
        since: (N,) s, since this foot has touched the ground.
        ahead: (N, 2) m, of the centre of mass before the left and the right ankle.
        speed: (N,) m/s, of the centre of mass.

    Returns:
        (N, 6) N m/kg: hip, knee, ankle, left before right.
    """
    swap = right_bears.unsqueeze(-1)
    turned, turning = (torch.where(swap, x[:, 1:].roll(3, -1), x[:, 1:]) for x in (angles, rates))  # bearing leg first
    up, down = (torch.tensor(pose, device=angles.device, dtype=angles.dtype) for pose in (UP, DOWN))
    pose = torch.where((since < LIFT).unsqueeze(-1), up, down)
    bearing = torch.where(right_bears, ahead[:, 1], ahead[:, 0])
    hip = pose[:, 0] + pose[:, 5] * bearing + pose[:, 6] * speed
    stiff, damp = STIFFNESS, DAMPING
    swing_hip = stiff[0] * (hip - turned[:, 3]) - damp[0] * turning[:, 3]
    trunk = -stiff[0] * angles[:, 0] - damp[0] * rates[:, 0]
    bearing_hip = -trunk - swing_hip  # so that the trunk feels the torque wanted for it

    def joint(k: int, target: Tensor, kind: int) -> Tensor:
        """The torque between links k and k - 1."""
        angle, rate = turned[:, k] - turned[:, k - 1], turning[:, k] - turning[:, k - 1]
        return stiff[kind] * (target - angle) - damp[kind] * rate

    bears = (bearing_hip, joint(1, pose[:, 3], 1), joint(2, pose[:, 4], 2))
    swings = (swing_hip, joint(4, pose[:, 1], 1), joint(5, pose[:, 2], 2))
    torques = torch.stack((*bears, *swings), dim=-1)
    return torch.where(swap, torques.roll(3, -1), torques)
