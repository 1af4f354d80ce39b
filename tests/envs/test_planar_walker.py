"""The planar walker obeys mechanics: its mass matrix, its energy, and its feet on the ground."""

from __future__ import annotations

import cmath
import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rltrain.envs.control.contacts import contact_impulses
from rltrain.envs.control.planar_walker import GROUND, STOP, PlanarWalker, WalkerState
from rltrain.evaluation.baselines import evaluate_baseline
from rltrain.make import make_env, make_vec
from rltrain.tree import leaves

N = 16
BENT = (0.4, -1.2, -0.1, 0.2, -0.9, -0.2)  # rad, far from every stop
LIMP = {"damping": 0.0, "armature": 0.0, "slope": 0.0}
STATUE = {"damping": 1e6}  # N m s/rad: joints that do not move


def make(**constants: Any) -> PlanarWalker:
    env = make_env("rltrain/PlanarWalker-v0", dtype=torch.float64, **constants)
    assert isinstance(env, PlanarWalker)
    return env


def in_the_air(env: PlanarWalker, seed: int = 0, speed: float = 1.0) -> WalkerState:
    """Bent, high up, each joint and the trunk at a speed of its own."""
    rng = torch.Generator().manual_seed(seed)
    state = env.reset(N, rng)
    trunk = torch.rand(N, 1, generator=rng, dtype=torch.float64) - 0.5
    left, right = (trunk + torch.tensor(leg, dtype=torch.float64).cumsum(0) for leg in (BENT[:3], BENT[3:]))
    rates = speed * torch.randn(N, 7, generator=rng, dtype=torch.float64)
    place = torch.tensor([0.0, 50.0], dtype=torch.float64).expand(N, 2)
    return dataclasses.replace(state, place=place, angles=torch.cat((trunk, left, right), 1), rates=rates)


def bodies(place: np.ndarray, angles: np.ndarray) -> list[tuple[float, complex, float, float]]:
    """(mass, centre of mass, angle, moment of inertia) of every link of the default walker.

    From Winter's table, link by link from the hip, with the whole moved to its centre of mass at the end.
    """
    height, whole = 1.7, 60.0
    found = [(0.678, 0.626 * 0.288j * cmath.exp(1j * angles[0]), angles[0], 0.496 * 0.288)]
    for thigh, shank, foot in ((1, 2, 3), (4, 5, 6)):
        down = [-1j * cmath.exp(1j * angles[k]) for k in (thigh, shank)]
        found.append((0.100, 0.433 * 0.245 * down[0], angles[thigh], 0.323 * 0.245))
        found.append((0.0465, 0.245 * down[0] + 0.433 * 0.246 * down[1], angles[shank], 0.302 * 0.246))
        sole = complex(0.036, -0.0195) * cmath.exp(1j * angles[foot])
        found.append((0.0145, 0.245 * down[0] + 0.246 * down[1] + sole, angles[foot], 0.475 * 0.152))
    assert sum(mass for mass, *_ in found) == pytest.approx(1.0)
    middle = sum(mass * center for mass, center, *_ in found)
    there = complex(*place)
    return [
        (whole * mass, there + height * (center - middle), angle, whole * mass * (height * gyration) ** 2)
        for mass, center, angle, gyration in found
    ]


def kinetic(state: WalkerState, i: int, eps: float = 1e-6) -> float:
    """J, from how far the links move in a moment."""
    ends = [
        bodies((state.place[i] + t * state.velocity[i]).numpy(), (state.angles[i] + t * state.rates[i]).numpy())
        for t in (-eps, eps)
    ]
    energy = 0.0
    for (mass, before, angle, inertia), (_, after, later, _) in zip(*ends, strict=True):
        energy += mass * abs((after - before) / (2 * eps)) ** 2 / 2 + inertia * ((later - angle) / (2 * eps)) ** 2 / 2
    return energy


def energy(env: PlanarWalker, state: WalkerState) -> Tensor:
    """(N,) J: of motion by the mass matrix, with the motors', and of height."""
    inertia = env.links.mass_matrix(*env.links.directions(state.angles)) * env.height**2
    turning = (state.rates.unsqueeze(1) @ inertia @ state.rates.unsqueeze(2)).flatten()
    motors = env.armature * (state.rates @ env.links.pulls.T).square().sum(-1)
    moving = state.velocity.square().sum(-1)
    return env.mass * ((turning + moving) / 2 + env.gravity * state.place[:, 1]) + motors / 2


def run(env: PlanarWalker, state: WalkerState, steps: int) -> list[WalkerState]:
    passed = [state]
    for _ in range(steps):
        passed.append(env.step(passed[-1], torch.zeros(N, 6), None)[0])
    return passed


def test_the_mass_matrix_gives_the_energy_of_links_that_move() -> None:
    env = make(**LIMP)
    state = dataclasses.replace(in_the_air(env, speed=3.0), velocity=torch.full((N, 2), 1.5, dtype=torch.float64))
    height = env.mass * env.gravity * state.place[:, 1]
    ours = (energy(env, state) - height).numpy()
    np.testing.assert_allclose(ours, [kinetic(state, i) for i in range(N)], rtol=1e-7)


def test_the_bias_is_that_of_lagranges_equations() -> None:
    """dM/dt w - grad(w M w / 2), by finite differences of the mass matrix."""
    env, eps = make(**LIMP), 1e-6
    state = in_the_air(env, speed=3.0)

    def matrix(angles: Tensor) -> Tensor:
        return env.links.mass_matrix(*env.links.directions(angles))

    w = state.rates
    steps = eps * torch.eye(7, dtype=torch.float64)
    slopes = torch.stack([(matrix(state.angles + e) - matrix(state.angles - e)) / (2 * eps) for e in steps], 1)
    changing = torch.einsum("nkij,nk,nj->ni", slopes, w, w)
    gradient = torch.einsum("nkij,ni,nj->nk", slopes, w, w) / 2
    bias = env.links.bias(*env.links.directions(state.angles), w)
    torch.testing.assert_close(bias, changing - gradient, rtol=1e-6, atol=1e-8)
    assert (bias.abs() > 1e-3).any()


@pytest.mark.parametrize(("gravity", "bound"), [(0.0, 0.01), (9.81, 0.05)])
def test_a_limp_walker_in_the_air_keeps_its_energy_the_better_the_finer_the_steps(gravity: float, bound: float) -> None:
    """By the energy of motion at the end; twice as many steps leave half the error."""
    drifts = []
    for substeps in (4, 8, 16, 32):
        env = make(**{**LIMP, "armature": 0.05}, gravity=gravity, substeps=substeps)
        passed = run(env, in_the_air(env), 5)
        joints = torch.stack([s.angles for s in passed]) @ env.links.pulls.T
        assert ((joints > env._lowest) & (joints < env._highest)).all()
        moving = energy(env, passed[-1]) - env.mass * gravity * passed[-1].place[:, 1]
        drifts.append(float(((energy(env, passed[-1]) - energy(env, passed[0])).abs() / moving).mean()))
    assert 0 < drifts[0] < bound
    for coarse, fine in pairwise(drifts):
        assert fine < 0.6 * coarse


def test_torques_between_links_turn_no_whole_walker() -> None:
    """In the air the angular momentum about the centre of mass stays, whatever the joints do."""
    env = make(damping=2.0, substeps=64)
    state = in_the_air(env)

    def momentum(s: WalkerState) -> Tensor:
        inertia = env.links.mass_matrix(*env.links.directions(s.angles))
        return env.mass * env.height**2 * (inertia @ s.rates.unsqueeze(-1)).sum((1, 2))

    after = state
    for _ in range(5):
        after, _, _ = env.step(after, torch.full((N, 6), 0.2), None)
    assert (after.rates - state.rates).abs().max() > 1
    torch.testing.assert_close(momentum(after), momentum(state), rtol=0.02, atol=0.02)
    torch.testing.assert_close(after.velocity[:, 0], state.velocity[:, 0])
    torch.testing.assert_close(after.velocity[:, 1], state.velocity[:, 1] - 0.1 * env.gravity)


def standing(env: PlanarWalker) -> WalkerState:
    """Upright on flat feet, at rest."""
    state = env.reset(N, torch.Generator().manual_seed(0))
    zero = torch.zeros(N, 7, dtype=torch.float64)
    low = env.links.point_jacobian(*env.links.directions(zero))[:, :4].sum(-1).amax(-1)
    place = torch.stack((torch.zeros(N, dtype=torch.float64), env.height * low), 1)
    return dataclasses.replace(state, place=place, angles=zero, rates=zero, velocity=zero[:, :2])


def soles(env: PlanarWalker, state: WalkerState) -> Tensor:
    """(N, 4) m: heights of heels and toes."""
    jacobian = env.links.point_jacobian(*env.links.directions(state.angles))
    return state.place[:, 1:] - env.height * jacobian[:, :4].sum(-1)


def test_a_stiff_walker_stands_without_sinking_or_sliding() -> None:
    env = make(**STATUE)
    passed = run(env, standing(env), 100)
    for state in passed[50:]:
        torch.testing.assert_close(env.load(state).sum(1), torch.ones(N, dtype=torch.float64), rtol=0.02, atol=0)
        assert soles(env, state).min() > -0.008
    assert (passed[-1].place[:, 0]).abs().max() < 0.02
    assert env.step(passed[-1], torch.zeros(N, 6), None)[2].logical_not().all()


def test_on_a_slope_it_holds_up_to_the_angle_of_friction_and_slides_beyond() -> None:
    sticky, slippery = make(**STATUE, slope=-0.08, friction=0.12), make(**STATUE, slope=-0.15, friction=0.05)
    assert run(sticky, standing(sticky), 50)[-1].velocity[:, 0].abs().max() < 0.02
    first, last = run(slippery, standing(slippery), 15)[5::10]
    gaining = (last.velocity[:, 0] - first.velocity[:, 0]) / (10 * 0.02)
    expected = 9.81 * (math.sin(0.15) - 0.05 * math.cos(0.15))
    torch.testing.assert_close(gaining, torch.full_like(gaining, expected), rtol=0.02, atol=0)


def test_the_ground_pushes_only_and_within_the_friction_cone() -> None:
    env = make(friction=0.3)
    state, rng = env.reset(N, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    touched = slid = 0
    for _ in range(60):
        state, _, _ = env.step(state, 2 * torch.rand(N, 6, generator=rng) - 1, None)
        sideways, normal = state.impulses.chunk(2, dim=-1)
        assert (normal >= 0).all()
        assert (sideways.abs() <= 0.3 * normal * (1 + 1e-12)).all()
        touched += int((normal > 0).sum())
        slid += int(((sideways.abs() > 0.299 * normal) & (normal > 0)).sum())
    assert touched > 100
    assert 10 < slid < touched


@pytest.mark.parametrize("constants", [STATUE, {"damping": 5.0}, {"damping": 5.0, "substeps": 16}])
def test_the_ground_gives_no_energy(constants: dict) -> None:
    """Dropped from half a metre, a walker never has more energy, of motion, height and springs, than at first."""
    env = make(**constants)
    state = in_the_air(env, speed=0.2)
    lowest = soles(env, state).amin(1)
    place = torch.stack((state.place[:, 0], state.place[:, 1] - lowest + 0.5), 1)
    passed = run(env, dataclasses.replace(state, place=place), 60)

    def whole(s: WalkerState) -> Tensor:
        joints = s.angles @ env.links.pulls.T
        stops = STOP * (joints - joints.clamp(env._lowest, env._highest)).square().sum(-1)
        springs = env.mass * GROUND * soles(env, s).clamp(max=0).square().sum(-1)
        return energy(env, s) + (stops + springs) / 2

    energies = torch.stack([whole(s) for s in passed])
    assert (energies[1:] < energies[0]).all()
    assert energies.diff(dim=0).max() < 0.002 * energies[0].min()
    heights = torch.stack([soles(env, s).amin(1) for s in passed])
    first = (heights < 0).float().argmax(0)
    assert (first > 0).all()  # all have come down
    for i, begin in enumerate(first.tolist()):
        assert heights[begin:, i].max() < 0.1  # bounced little, or not at all
        assert heights[:, i].min() > -0.06


def test_impulses_solve_the_contact_problem() -> None:
    """Of random contacts: rows that are free move as wanted, others are at the end of their range."""
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(N, 8, 8, generator=rng, dtype=torch.float64)
    response = root @ root.mT + torch.eye(8, dtype=torch.float64)
    approach = torch.randn(N, 8, generator=rng, dtype=torch.float64)
    closed = (torch.rand(N, 4, generator=rng) < 0.8).double()
    friction = torch.tensor(0.5, dtype=torch.float64)
    guess = torch.zeros(N, 8, 1, dtype=torch.float64)
    x = contact_impulses(response, approach, closed, friction, guess, 5_000)
    left = (response @ x).squeeze(-1) + approach
    sideways, normal = x.squeeze(-1).chunk(2, -1)
    slip, gap = left.chunk(2, -1)
    assert (x.squeeze(-1)[closed.repeat(1, 2) == 0] == 0).all()
    touches = closed > 0
    assert (gap[touches] > -1e-6).all()
    assert (gap * normal)[touches].abs().max() < 1e-6
    sticks = sideways.abs() < 0.5 * normal - 1e-9
    assert slip[touches & sticks].abs().max() < 1e-6
    slides = touches & ~sticks & (normal > 1e-9)
    assert (slip * sideways)[slides].max() < 1e-6  # friction is against the slip
    assert min(int((touches & sticks).sum()), int(slides.sum()), int((touches & (normal == 0)).sum())) > 3


def test_joints_stop() -> None:
    env = make()
    state = in_the_air(env)
    for _ in range(50):
        state, _, _ = env.step(state, torch.full((N, 6), 1.0), None)
    joints = state.angles @ env.links.pulls.T
    assert (joints < env._highest + 0.4).all()
    assert (joints[:, 1] > -0.05).all()  # the knee is straight


def test_single_precision_stays_near_double() -> None:
    env, single = make(), make_env("rltrain/PlanarWalker-v0")
    state = env.reset(N, torch.Generator().manual_seed(0))
    other = type(state)(**{f.name: getattr(state, f.name).float() for f in dataclasses.fields(state)})
    action = torch.full((N, 6), 0.1)
    for _ in range(5):
        state, other = env.step(state, action, None)[0], single.step(other, action, None)[0]
    for a, b in zip(leaves(state), leaves(other), strict=True):
        torch.testing.assert_close(a.float(), b, rtol=2e-3, atol=2e-3)


def test_it_stays_finite_under_the_wildest_torques() -> None:
    vec = make_vec("rltrain/PlanarWalker-v0", 256, friction=[0.0, 2.0], mass=[20.0, 200.0], height=[0.5, 2.5])
    vec.reset(0)
    rng = torch.Generator().manual_seed(0)
    for _ in range(100):
        step = vec.step(torch.rand(256, 6, generator=rng).round() * 2 - 1)
        assert step.final_obs.isfinite().all()
        assert step.reward.isfinite().all()


def test_the_baseline_walks_and_random_torques_fall() -> None:
    vec = make_vec("rltrain/PlanarWalker-v0", 16, max_episode_steps=250)
    baseline, random = (evaluate_baseline(vec, who, 16) for who in ("baseline", "random"))
    assert baseline.mean_reward > 200  # of 312 at the target speed throughout
    assert random.mean_reward < 40
