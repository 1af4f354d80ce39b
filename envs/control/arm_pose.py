"""Arm pose: bring the tool of a six-joint arm to a place and an orientation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREEN, INK, ORANGE, PAPER, RED, SILVER, SKY, Canvas, Point
from rltrain.env import TensorEnv
from rltrain.envs.control.serial_arm import SerialArm, rotation_between

# Universal Robots' UR5e, from "DH Parameters for calculations of kinematics and dynamics" of its maker, who calls the
# links' moments of inertia about their centres negligible; torques and range from its technical specifications.
DH = (
    (0.0, 0.1625, math.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, math.pi / 2),
    (0.0, 0.0997, -math.pi / 2),
    (0.0, 0.0996, 0.0),
)  # a (m), d (m), alpha (rad)
MASSES = (3.761, 8.058, 2.846, 1.37, 1.3, 0.365)  # kg
CENTERS = (
    (0.0, -0.02561, 0.00193),
    (0.2125, 0.0, 0.11336),
    (0.15, 0.0, 0.0265),
    (0.0, -0.0018, 0.01634),
    (0.0, 0.0018, 0.01634),
    (0.0, 0.0, -0.001159),
)  # m
TORQUES = (150.0, 150.0, 150.0, 28.0, 28.0, 28.0)  # N m
RANGE = 2 * math.pi  # rad, of every joint to either side
READY = (0.0, -math.pi / 2, math.pi / 2, -math.pi / 2, -math.pi / 2, 0.0)  # rad: elbow up, the tool pointing down


@dataclass
class ArmPoseState:
    """Where the arm is and where its tool ought to be."""

    angles: Tensor  # (N, 6) rad, from base to wrist
    rates: Tensor  # (N, 6) rad/s
    target: Tensor  # (N, 3) m, in the frame of the base, z up
    facing: Tensor  # (N, 3, 3) rotation of the tool at the target
    way: Tensor  # (N, 3) m, from the tool to the target
    turn: Tensor  # (N, 3) rad, rotation vector from the tool's orientation to the wanted one
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class ArmPose(TensorEnv[ArmPoseState]):
    """Bring the tool of a UR5e to a place and an orientation by the torques of its joints, and keep it there.

    Observation: (N, 24): cos and sin of the joints, their rates (rad/s), the way from the tool to the target (m), the
        rotation vector from its orientation to the wanted one (rad); clipped at +-7.
    Action: (N, 6) in [-1, 1]: torques of the joints, from base to wrist, as shares of ``strength`` times the maker's
        150 N m, of the last three 28 N m, beside those that hold the arm against gravity.
    Reward: minus the distance to the target in m, minus 0.3 times the angle to the wanted orientation in rad, minus
        0.02 times the mean square of the actions.
    Episode end: none but the time limit. Success is a tool within ``tolerance`` of the target and 0.15 rad of its
        orientation.
    Source: rigid bodies by Kane's equations; kinematics and masses of the UR5e as published by Universal Robots, "DH
        Parameters for calculations of kinematics and dynamics".
    Baseline: damped least squares (Nakamura and Hanafusa 1986; Wampler 1986): rates that bring the tool to the target
        on the straightest way, and torques to reach them within 0.1 s.

    Targets are poses that the arm has within ``spread`` of each joint's angle in its ready position, and it starts in
    another. Semi-implicit Euler in ``substeps`` equal parts of a step, with friction at the end of a part. The arm does
    not touch itself or the floor; a joint stops after a whole turn to either side.

    Every constant but ``gravity_compensation`` and ``substeps`` may be a range ``[low, high]``, drawn anew for each
    episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        gravity_compensation: Whether the arm's controller adds the torques against gravity, as the maker's does.
        strength: Largest torques, by the maker's.
        friction: Torque of a joint against its motion, s/rad, by the maker's largest torque.
        armature: Moment of inertia that the motors add to each joint, kg m^2.
        spread: Range of each joint about its ready position in start and target, rad.
        tolerance: Distance that counts as success, m.
        tau: Time between two states, s.
        substeps: Parts of it for the integrator.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity`` or ``friction`` below 0, ``spread`` above pi, or another
            not above 0.
    """

    max_episode_steps = 100
    reset_interval = 16
    render_fps = 25

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.81,
        gravity_compensation: bool = True,
        strength: float | Sequence[float] = 0.5,
        friction: float | Sequence[float] = 0.16,
        armature: float | Sequence[float] = 0.1,
        spread: float | Sequence[float] = 0.8,
        tolerance: float | Sequence[float] = 0.03,
        tau: float | Sequence[float] = 0.04,
        substeps: int = 2,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.gravity_compensation = self.choice("gravity_compensation", gravity_compensation, (True, False))
        self.strength = self.constant("strength", strength, above=0, per_episode=True)
        self.friction = self.constant("friction", friction, at_least=0, per_episode=True)
        self.armature = self.constant("armature", armature, above=0, per_episode=True)
        self.spread = self.constant("spread", spread, above=0, at_most=math.pi, per_episode=True)
        self.tolerance = self.constant("tolerance", tolerance, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        self.substeps = self.whole("substeps", substeps, at_least=1, at_most=100)
        self.observation_space = spaces.Box(-7.0, 7.0, (24,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), dtype=np.float32)
        options: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        self.arm = SerialArm(DH, MASSES, CENTERS, **options)
        self._torques, self._ready = torch.tensor(TORQUES, **options), torch.tensor(READY, **options)
        self._down, self._unit = torch.tensor((0.0, 0.0, -1.0), **options), torch.eye(6, **options)

    def reset(self, n: int, rng: torch.Generator | None) -> ArmPoseState:
        """At rest in one pose near the ready one, with the target in another."""
        drawn = self.draw_constants(n, rng)
        near = torch.empty(2, n, 6, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng)
        start, end = (self._ready + self.constants_of(drawn).spread.unsqueeze(-1) * near).unbind()
        poses = self.arm.pose(torch.cat((start, end)))
        (place, target), (rotation, facing) = (x[:, -1].contiguous().chunk(2) for x in (poses.places, poses.rotations))
        errors = target - place, rotation_between(facing, rotation)
        return ArmPoseState(start, torch.zeros_like(start), target, facing, *errors, drawn)

    def step(
        self, state: ArmPoseState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[ArmPoseState, Tensor, Tensor]:
        """``substeps`` steps of semi-implicit Euler under constant torques."""
        c = self.constants_of(state.drawn)
        effort = action.to(self.dtype).clamp(-1, 1)
        torques = effort * self._torques * c.strength.unsqueeze(-1)
        resist, armature = self._torques * c.friction.unsqueeze(-1), c.armature.view(-1, 1, 1)
        h = (c.tau / self.substeps).unsqueeze(-1)
        added = self._unit * (armature + (h * resist).unsqueeze(-1))
        fall = self._down * 0 if self.gravity_compensation else self._down * c.gravity.view(-1, 1, 1)
        angles, rates = state.angles, state.rates
        for _ in range(self.substeps):
            inertia, bias = self.arm.equations(self.arm.pose(angles), rates, fall)
            push = h * (torques - resist * rates - bias)
            rates = rates + torch.linalg.solve_ex(inertia + added, push)[0]
            moved = angles + h * rates
            angles = moved.clamp(-RANGE, RANGE)
            rates = torch.where(angles == moved, rates, 0.0)  # a joint at its stop rests
        pose = self.arm.pose(angles)
        way = state.target - pose.places[:, -1]
        turn = rotation_between(state.facing, pose.rotations[:, -1])
        after = ArmPoseState(angles, rates, state.target, state.facing, way, turn, state.drawn)
        reward = -_length(way) - 0.3 * _length(turn) - 0.02 * effort.square().mean(-1)
        return after, reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: ArmPoseState) -> Tensor:
        """(N, 24)."""
        parts = (state.angles.cos(), state.angles.sin(), state.rates, state.way, state.turn)
        return torch.cat(parts, dim=-1).clamp(-7, 7)

    def info(self, state: ArmPoseState) -> dict[str, Tensor]:
        """Whether the tool is at the target and turned as it ought to be."""
        near = _length(state.way) < self.constants_of(state.drawn).tolerance
        return {"is_success": near & (_length(state.turn) < 0.15)}

    def baseline(self, state: ArmPoseState) -> Tensor:
        """(N, 6): the torques to reach the rates of damped least squares."""
        c = self.constants_of(state.drawn)
        pose = self.arm.pose(state.angles)
        jacobian = self.arm.jacobian(pose)
        error = torch.cat((state.way, state.turn), dim=-1)
        solved = torch.linalg.solve_ex(jacobian @ jacobian.mT + 0.01 * self._unit, error.unsqueeze(-1))[0]
        wanted = 5 * (jacobian.mT @ solved).squeeze(-1)
        inertia, bias = self.arm.equations(pose, state.rates, self._down * 0)
        inertia = inertia + self._unit * c.armature.view(-1, 1, 1)
        torques = (inertia @ (wanted - state.rates).unsqueeze(-1)).squeeze(-1) / 0.1 + bias
        torques = torques + self._torques * c.friction.unsqueeze(-1) * wanted
        return (torques / (self._torques * c.strength.unsqueeze(-1))).clamp(-1, 1)

    def render(self, state: ArmPoseState, index: int = 0) -> Tensor:
        """The arm in parallel perspective, its tool's axes and those of the target, (400, 480, 3) uint8."""
        pose = self.arm.pose(state.angles[index : index + 1])
        places = pose.places[0].tolist()
        joints = [[0.0, 0.0, 0.0], *places]
        canvas = Canvas(480, 400, world=(-1.08, -0.55, 1.08, 1.25))
        floor = [(r * math.cos(k), r * math.sin(k), 0.0) for r in (0.95, 0.93) for k in np.linspace(0, 2 * math.pi, 60)]
        canvas.polygon([_seen(p) for p in floor[:60]], SILVER)
        canvas.polygon([_seen(p) for p in floor[60:]], PAPER)
        for k in range(-3, 4):
            edge = math.sqrt(0.93**2 - (0.3 * k) ** 2)
            canvas.line([_seen((0.3 * k, -edge, 0)), _seen((0.3 * k, edge, 0))], SILVER, width=0.006)
            canvas.line([_seen((-edge, 0.3 * k, 0)), _seen((edge, 0.3 * k, 0))], SILVER, width=0.006)
        target, facing = state.target[index].tolist(), state.facing[index]
        canvas.line([_seen(target), _seen((target[0], target[1], 0.0))], "#4f9d6960", width=0.01)
        shadow = [(x, y, 0.0) for x, y, _ in joints]
        canvas.line([_seen(p) for p in shadow], "#2b303b30", width=0.05)
        for k, width in enumerate((0.12, 0.1, 0.085, 0.07, 0.06, 0.05)):
            canvas.line([_seen(joints[k]), _seen(joints[k + 1])], BLUE if k < 3 else SKY, width=width)
            canvas.circle(_seen(joints[k + 1]), 0.45 * width, INK if k < 5 else ORANGE)
        for origin, rotation, bright in ((joints[-1], pose.rotations[0, -1], False), (target, facing, True)):
            for column, color in enumerate((RED, GREEN, BLUE)):
                tip = [origin[i] + 0.16 * float(rotation[i, column]) for i in range(3)]
                canvas.line([_seen(origin), _seen(tip)], color, width=0.022 if bright else 0.014)
        canvas.circle(_seen(target), 0.028, GREEN)
        return canvas.picture()


def _length(vectors: Tensor) -> Tensor:
    return vectors.square().sum(-1).sqrt()


def _seen(place: Sequence[float]) -> Point:
    """A place in the frame of the base as drawn: x towards the viewer on the left, y to the right, z up."""
    x, y, z = place
    return 0.87 * y - 0.5 * x, z - 0.22 * y - 0.4 * x
