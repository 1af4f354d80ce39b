"""Planar walker: a biped of seven links with feet walks over the ground by the torques of its six joints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.canvas import BLUE, GREY, INK, ORANGE, PAPER, SILVER, SKY, Canvas, Point
from rltrain.env import Constants, TensorEnv
from rltrain.envs.control.contacts import contact_impulses
from rltrain.envs.control.planar_links import Link, PlanarLinks
from rltrain.envs.control.simbicon import simbicon

# Winter, "Biomechanics and Motor Control of Human Movement", 4th edition, 2009, figure 4.1 and table 4.1, with lengths
# as shares of the body's height: head, arms and trunk as one link, and for each leg thigh, shank and foot.
HIP, KNEE, ANKLE = 0.530, 0.285, 0.039
FOOT = 0.152 * 0.475  # radius of gyration
HEEL, TOE = complex(-0.04, -ANKLE), complex(0.112, -ANKLE)  # from the ankle
TORSO = Link(-1, 0j, 0.678, 0.626 * 0.288j, 0.496 * 0.288)
LEG = ((0.100, HIP - KNEE, 0.323), (0.0465, KNEE - ANKLE, 0.302))  # mass, length, gyration: of thigh and shank
LINKS = (
    TORSO,
    *(
        link
        for first in (1, 4)
        for link in (
            Link(0, 0j, LEG[0][0], -0.433j * LEG[0][1], LEG[0][2] * LEG[0][1]),
            Link(first, -1j * LEG[0][1], LEG[1][0], -0.433j * LEG[1][1], LEG[1][2] * LEG[1][1]),
            Link(first + 1, -1j * LEG[1][1], 0.0145, complex(0.036, -ANKLE / 2), FOOT),
        )
    ),
)
POINTS = ((3, HEEL), (3, TOE), (6, HEEL), (6, TOE))
SHARES = (1.0, 1.0, 0.6) * 2  # of max_torque, in hip, knee and ankle
LOWEST, HIGHEST = (-0.8, -2.4, -0.9) * 2, (1.8, 0.0, 0.6) * 2  # rad, of each joint
STOP, STOP_DAMPING = 600.0, 30.0  # N m/rad and N m s/rad, beyond them
GROUND, GROUND_DAMPING, GRIP = 1000.0, 32.0, 200.0  # 1/s^2, 1/s, 1/s: of a point, by the mass of the walker


@dataclass
class WalkerState:
    """Where the walker is. Link 0 is the trunk, 1 to 3 are the left leg, 4 to 6 the right one."""

    place: Tensor  # (N, 2) m, x and z of the centre of mass; the ground is z = 0
    angles: Tensor  # (N, 7) rad, of the links against upright, counter-clockwise (leaning back), not wrapped
    velocity: Tensor  # (N, 2) m/s
    rates: Tensor  # (N, 7) rad/s
    impulses: Tensor  # (N, 8) m/s, on left heel and toe, right heel and toe: x of all, then z; by the mass
    stance: Tensor  # (N,) 0 where the left foot was the last to touch the ground, 1 the right: for the baseline
    since: Tensor  # (N,) s, since it did
    drawn: Tensor  # (N, K) the constants drawn for this episode, see TensorEnv.draw_constants


class PlanarWalker(TensorEnv[WalkerState]):
    """Walk to the right on two legs with knees and feet.

    Observation: (N, 21): the hip's height by the body's; the trunk's angle (rad); the angles of hip, knee and ankle,
        left before right (rad); the velocity of the centre of mass (x, z in m/s); the trunk's rate and the joints'
        (rad/s, by 10); the load on left heel and toe, right heel and toe by the weight; all clipped at +-5.
    Action: (N, 6) in [-1, 1]: torques of hip, knee and ankle, left before right, as shares of ``max_torque`` (ankles
        0.6 of it), counter-clockwise: hips forwards, knees straight, toes up.
    Reward: the way of the centre of mass to the right in the step, by that at ``target_speed``, within +-1; 0.25 for
        not falling; minus 0.1 times the mean square of the actions.
    Episode end: the hip is lower than 0.35 of the body's height (upright it is at 0.53), or the trunk leans by more
        than 1 rad.
    Source: Lagrange's equations of the links; the body's proportions after Winter, "Biomechanics and Motor Control of
        Human Movement", 4th edition, 2009, table 4.1; contacts after Anitescu and Potra, 1997; the task after
        Gymnasium's Walker2d.
    Baseline: SIMBICON (Yin, Loken and van de Panne, 2007): poses in turn, and the swinging leg aimed by the place and
        the speed of the centre of mass.

    Semi-implicit Euler in ``substeps`` equal parts of a step. Joints' damping and stops and the ground's springs are
    taken at the end of a part, so that no stiffness makes it unstable, and a point is stopped in the part in which it
    would pass through the ground. Only heels and toes touch it.

    Every constant but ``substeps`` may be a range ``[low, high]``, drawn anew for each episode.

    Args:
        gravity: Acceleration of free fall, m/s^2.
        slope: Angle by which the ground rises to the right, rad.
        friction: Coefficient of friction of the ground.
        mass: Mass of the whole, kg.
        height: Height of the body, m.
        max_torque: Largest torque of hips and knees, N m.
        damping: Friction in the joints, N m s/rad.
        armature: Moment of inertia that the motors add to each joint, kg m^2.
        target_speed: Speed at which the reward is greatest, m/s.
        tau: Time between two states, s.
        substeps: Parts of it for the integrator.
        **base: ``device`` and ``dtype``, see :class:`~rltrain.env.TensorEnv`.

    Raises:
        ConfigError: A constant is out of range: ``gravity``, ``friction``, ``damping`` or ``armature`` below 0,
            ``slope`` beyond 0.5, or another not above 0.
    """

    max_episode_steps = 500
    reset_interval = 16
    render_fps = 50
    iterations = 6  # for the contacts

    def __init__(
        self,
        *,
        gravity: float | Sequence[float] = 9.81,
        slope: float | Sequence[float] = 0.0,
        friction: float | Sequence[float] = 0.9,
        mass: float | Sequence[float] = 60.0,
        height: float | Sequence[float] = 1.7,
        max_torque: float | Sequence[float] = 120.0,
        damping: float | Sequence[float] = 1.0,
        armature: float | Sequence[float] = 0.1,
        target_speed: float | Sequence[float] = 1.5,
        tau: float | Sequence[float] = 0.02,
        substeps: int = 4,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.gravity = self.constant("gravity", gravity, at_least=0, per_episode=True)
        self.slope = self.constant("slope", slope, at_least=-0.5, at_most=0.5, per_episode=True)
        self.friction = self.constant("friction", friction, at_least=0, per_episode=True)
        self.mass = self.constant("mass", mass, above=0, per_episode=True)
        self.height = self.constant("height", height, above=0, per_episode=True)
        self.max_torque = self.constant("max_torque", max_torque, above=0, per_episode=True)
        self.damping = self.constant("damping", damping, at_least=0, per_episode=True)
        self.armature = self.constant("armature", armature, at_least=0, per_episode=True)
        self.target_speed = self.constant("target_speed", target_speed, above=0, per_episode=True)
        self.tau = self.constant("tau", tau, above=0, per_episode=True)
        self.substeps = self.whole("substeps", substeps, at_least=1, at_most=100)
        self.observation_space = spaces.Box(-5.0, 5.0, (21,), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (6,), dtype=np.float32)
        options: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        self.links = PlanarLinks(LINKS, POINTS, **options)
        self._shares = torch.tensor(SHARES, **options)
        self._lowest, self._highest = torch.tensor(LOWEST, **options), torch.tensor(HIGHEST, **options)
        self._to_points = torch.eye(2, **options).repeat_interleave(4, dim=1)  # (2, 8): x and z of each
        self._both = self._to_points.T @ self._to_points
        self._slide, self._press = (torch.diag(row) for row in self._to_points)

    def reset(self, n: int, rng: torch.Generator | None) -> WalkerState:
        """Standing, joints within 0.1 rad of a slightly bent pose, nearly at rest, a foot just above the ground."""
        drawn = self.draw_constants(n, rng)
        near = torch.empty(17, n, device=self.device, dtype=self.dtype).uniform_(-1, 1, generator=rng)
        joints = near[:6].T * 0.1 + torch.tensor((0.1, -0.2, 0.1) * 2, device=self.device, dtype=self.dtype)
        joints = joints.clamp(self._lowest, self._highest)
        trunk = 0.05 * near[6]
        left, right = (trunk.unsqueeze(-1) + leg.cumsum(-1) for leg in joints.chunk(2, dim=-1))
        angles = torch.cat((trunk.unsqueeze(-1), left, right), dim=-1)
        low = self.links.point_jacobian(*self.links.directions(angles))[:, :4].sum(-1).amax(-1)
        z = self.constants_of(drawn).height * low + 0.001
        zero = torch.zeros_like(z)
        velocity, rates = 0.1 * near[7:9].T, 0.1 * near[9:16].T
        stance = (near[16] > 0).to(self.dtype)
        return WalkerState(
            torch.stack((zero, z), -1), angles, velocity, rates, torch.zeros_like(near[:8].T), stance, zero, drawn
        )

    def step(
        self, state: WalkerState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[WalkerState, Tensor, Tensor]:
        """``substeps`` steps of semi-implicit Euler under constant torques."""
        c = self.constants_of(state.drawn)
        effort = action.to(self.dtype).clamp(-1, 1)
        after = self._advance(state, effort, c)
        way = (after.place[:, 0] - state.place[:, 0]) / (c.tau * c.target_speed)
        reward = way.clamp(-1, 1) + 0.25 - 0.1 * effort.square().mean(-1)
        fallen = (self.hip_height(after) < 0.35 * c.height) | (after.angles[:, 0].abs() > 1)
        return after, reward, fallen

    def _advance(self, state: WalkerState, effort: Tensor, c: Constants) -> WalkerState:
        links, h = self.links, (c.tau / self.substeps).unsqueeze(-1)
        size = (c.mass * c.height.square()).unsqueeze(-1)  # kg m^2: torques by it turn a walker of 1 kg and 1 m
        torque = effort * self._shares * (c.max_torque.unsqueeze(-1) / size)
        damping, armature = c.damping.unsqueeze(-1) / size, c.armature.unsqueeze(-1) / size
        stop, stopping = STOP / size, (STOP_DAMPING + h * STOP) / size
        fall = torch.stack((-c.slope.sin(), -c.slope.cos()), dim=-1) * c.gravity.unsqueeze(-1) * h
        height, friction = c.height.unsqueeze(-1), c.friction.view(-1, 1, 1)
        yielding = h * GROUND + GROUND_DAMPING  # 1/s: a spring and a damper at the end of the part, Smith's ERP and CFM
        give = self._both + (self._slide / (h * GRIP).unsqueeze(-1)) + self._press / (h * yielding).unsqueeze(-1)
        lift = GROUND / yielding

        place, angles, velocity, rates = state.place, state.angles, state.velocity, state.rates
        x = state.impulses.unsqueeze(-1)
        for _ in range(self.substeps):
            cos, sin = links.directions(angles)
            joints = angles @ links.pulls.T
            over = joints - joints.clamp(self._lowest, self._highest)
            resist = damping + (over != 0) * stopping
            turn = torque - resist * (rates @ links.pulls.T) - stop * over
            inertia = links.mass_matrix(cos, sin) + ((armature + h * resist) @ links.outer).view(-1, 7, 7)
            push = h * (turn @ links.pulls - links.bias(cos, sin, rates))
            jacobian = links.point_jacobian(cos, sin)
            solved = torch.linalg.solve_ex(inertia, torch.cat((push.unsqueeze(-1), jacobian.mT), dim=-1))[0]
            rates, levers = rates + solved[..., 0], solved[..., 1:]
            velocity = velocity + fall
            above = place[:, 1:] - height * jacobian[:, :4].sum(-1)  # m: of the points over the ground
            turned = (jacobian @ rates.unsqueeze(-1)).squeeze(-1)
            sliding, falling = (velocity @ self._to_points + height * turned).chunk(2, dim=-1)
            falling = falling + torch.where(above > 0, 1 / h, lift) * above  # m/s: below 0, it reaches the ground
            closed = ((above < 0) | (falling < 0)).to(self.dtype)
            approach = torch.cat((sliding, falling), dim=-1)
            response = torch.baddbmm(give, jacobian, levers)
            x = contact_impulses(response, approach, closed, friction, x, self.iterations)
            rates = rates + (levers @ x).squeeze(-1) / height
            velocity = velocity + x.squeeze(-1) @ self._to_points.T
            place, angles = place + h * velocity, angles + h * rates
        x = x.squeeze(-1)
        return WalkerState(place, angles, velocity, rates, x, *self._bearing(state, x, c.tau), state.drawn)

    def _bearing(self, before: WalkerState, impulses: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Which foot bears, and since when: the other one once it touches, not before 0.1 s have passed."""
        left, right = (impulses[:, 4:] > 0).view(-1, 2, 2).any(-1).unbind(-1)
        since = before.since + tau
        changes = torch.where(before.stance > 0, left, right) & (since > 0.1)
        return torch.where(changes, 1 - before.stance, before.stance), torch.where(changes, 0.0, since)

    def hip_height(self, state: WalkerState) -> Tensor:
        """(N,) m: of the hip over the ground."""
        root = self.links.root(*self.links.directions(state.angles))
        return state.place[:, 1] + self.constants_of(state.drawn).height * root[:, 1]

    def load(self, state: WalkerState) -> Tensor:
        """(N, 4): the force of the ground on left heel and toe, right heel and toe, by the weight on Earth."""
        h = (self.constants_of(state.drawn).tau / self.substeps).unsqueeze(-1)
        return state.impulses[:, 4:] / (9.81 * h)

    def observe(self, state: WalkerState) -> Tensor:
        """(N, 21)."""
        height = self.constants_of(state.drawn).height
        joints, joint_rates = state.angles @ self.links.pulls.T, state.rates @ self.links.pulls.T
        parts = (
            (self.hip_height(state) / height).unsqueeze(-1),
            state.angles[:, :1],
            joints,
            state.velocity,
            state.rates[:, :1] / 10,
            joint_rates / 10,
            self.load(state),
        )
        return torch.cat(parts, dim=-1).clamp(-5, 5)

    def baseline(self, state: WalkerState) -> Tensor:
        """(N, 6): SIMBICON's torques."""
        c = self.constants_of(state.drawn)
        spots = self.links.point_jacobian(*self.links.directions(state.angles))[:, 4:].sum(-1)  # x of heels and toes
        torques = simbicon(
            state.angles,
            state.rates,
            right_bears=state.stance > 0,
            since=state.since,
            ahead=-(0.74 * spots[:, ::2] + 0.26 * spots[:, 1::2]) * c.height.unsqueeze(-1),  # of the ankles
            speed=state.velocity[:, 0],
        )
        return (torques * c.mass.unsqueeze(-1) / (self._shares * c.max_torque.unsqueeze(-1))).clamp(-1, 1)

    def render(self, state: WalkerState, index: int = 0) -> Tensor:
        """The walker from the side, with marks on the ground every half metre, (360, 540, 3) uint8."""
        c = self.constants_of(state.drawn[index])
        height, slope = float(c.height), float(c.slope)
        cos, sin = self.links.directions(state.angles[index : index + 1])
        root = (state.place[index] + c.height * self.links.root(cos, sin)[0]).tolist()
        angles = state.angles[index].tolist()
        canvas = Canvas(540, 360, world=(-0.9 * height, -0.15 * height, 0.9 * height, 1.05 * height))
        x = float(state.place[index, 0])

        def on(px: float, pz: float) -> Point:  # of a ground that rises
            px -= x
            return math.cos(slope) * px - math.sin(slope) * pz, math.sin(slope) * px + math.cos(slope) * pz

        canvas.polygon([on(x - 9, 0), on(x + 9, 0), on(x + 9, -9), on(x - 9, -9)], SILVER)
        canvas.line([on(x - 9, 0), on(x + 9, 0)], GREY, width=0.01)
        for k in range(math.floor(2 * x) - 6, math.floor(2 * x) + 8):
            canvas.line([on(k / 2, 0), on(k / 2, -0.03 - 0.05 * (k % 2 == 0))], GREY, width=0.015)
        hip = complex(*root)
        tip = hip + 0.288j * height * _turned(angles[0])
        head = hip + 0.40j * height * _turned(angles[0])
        for first, color in ((4, SKY), (1, BLUE)):
            knee = hip - 1j * LEG[0][1] * height * _turned(angles[first])
            ankle = knee - 1j * LEG[1][1] * height * _turned(angles[first + 1])
            sole = [ankle + height * spot * _turned(angles[first + 2]) for spot in (HEEL, TOE)]
            canvas.polygon([on(p.real, p.imag) for p in (ankle, *sole)], color)
            canvas.line([on(p.real, p.imag) for p in sole], color, width=0.02 * height)
            canvas.line([on(p.real, p.imag) for p in (hip, knee)], color, width=0.07 * height)
            canvas.line([on(p.real, p.imag) for p in (knee, ankle)], color, width=0.05 * height)
            canvas.circle(on(knee.real, knee.imag), 0.012 * height, PAPER)
        canvas.line([on(p.real, p.imag) for p in (hip, tip)], ORANGE, width=0.11 * height)
        canvas.circle(on(head.real, head.imag), 0.065 * height, ORANGE)
        canvas.circle(on(hip.real, hip.imag), 0.015 * height, INK)
        return canvas.picture()


def _turned(angle: float) -> complex:
    return complex(math.cos(angle), math.sin(angle))
