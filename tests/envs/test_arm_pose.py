"""The arm of ArmPose agrees with an independent composition of rotations, and with mechanics."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from rltrain.envs.control.arm_pose import CENTERS, DH, MASSES, READY, ArmPose, ArmPoseState
from rltrain.envs.control.serial_arm import rotation_between
from rltrain.evaluation.baselines import evaluate_baseline
from rltrain.make import make_env, make_vec

N = 16
FREE = {"gravity_compensation": False, "friction": 0.0}


def make(**constants: Any) -> tuple[ArmPose, ArmPoseState]:
    env = make_env("rltrain/ArmPose-v0", dtype=torch.float64, **constants)
    assert isinstance(env, ArmPose)
    state = env.reset(N, torch.Generator().manual_seed(0))
    rates = torch.randn(N, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return env, dataclasses.replace(state, rates=rates)


def frames(angles: np.ndarray) -> list[tuple[np.ndarray, Rotation]]:
    """(origin, rotation) of every link: turns and moves one after another, as the maker's drawing has them."""
    origin, rotation, found = np.zeros(3), Rotation.identity(), []
    for angle, (a, d, alpha) in zip(angles, DH, strict=True):
        origin = origin + rotation.apply([0, 0, d])
        rotation = rotation * Rotation.from_euler("z", angle)
        origin = origin + rotation.apply([a, 0, 0])
        rotation = rotation * Rotation.from_euler("x", alpha)
        found.append((origin, rotation))
    return found


def centers(angles: np.ndarray) -> np.ndarray:
    """(6, 3) m: the links' centres of mass."""
    return np.array([o + r.apply(c) for (o, r), c in zip(frames(angles), CENTERS, strict=True)])


def test_kinematics_are_those_of_rotations_one_after_another() -> None:
    env, _ = make()
    angles = torch.empty(N, 6, dtype=torch.float64).uniform_(-6, 6)
    pose = env.arm.pose(angles)
    for i in range(N):
        for k, (origin, rotation) in enumerate(frames(angles[i].numpy())):
            np.testing.assert_allclose(pose.places[i, k], origin, atol=1e-12)
            np.testing.assert_allclose(pose.rotations[i, k], rotation.as_matrix(), atol=1e-12)


def test_the_arm_stretched_out_reaches_as_far_as_its_maker_says() -> None:
    """With all joints at 0 the arm is level: -(0.425 + 0.3922) m along x; the tool is off by the wrists' widths."""
    env, _ = make()
    pose = env.arm.pose(torch.zeros(1, 6, dtype=torch.float64))
    np.testing.assert_allclose(pose.places[0, -1], [-0.8172, -0.2329, 0.0628], atol=1e-9)
    ready = env.arm.pose(torch.tensor([READY], dtype=torch.float64))
    np.testing.assert_allclose(ready.rotations[0, -1, :, 2], [0, 0, -1], atol=1e-9)  # the tool points down


def test_the_jacobian_is_the_derivative_of_the_tool() -> None:
    env, state = make()
    eps = 1e-6
    before, after = (env.arm.pose(state.angles + t * state.rates) for t in (-eps, eps))
    twist = (env.arm.jacobian(env.arm.pose(state.angles)) @ state.rates.unsqueeze(-1)).squeeze(-1)
    speed = (after.places[:, -1] - before.places[:, -1]) / (2 * eps)
    turning = rotation_between(after.rotations[:, -1], before.rotations[:, -1]) / (2 * eps)
    torch.testing.assert_close(twist, torch.cat((speed, turning), 1), rtol=1e-6, atol=1e-6)


def test_the_mass_matrix_gives_the_energy_of_links_that_move() -> None:
    env, state = make(**FREE)
    eps = 1e-6
    inertia, _ = env.arm.equations(env.arm.pose(state.angles), state.rates, torch.zeros(3))
    ours = (state.rates.unsqueeze(1) @ inertia @ state.rates.unsqueeze(2)).flatten() / 2
    for i in range(N):
        ends = [centers((state.angles[i] + t * state.rates[i]).numpy()) for t in (-eps, eps)]
        speeds = np.square((ends[1] - ends[0]) / (2 * eps)).sum(1)
        assert float(ours[i]) == pytest.approx(float(np.dot(MASSES, speeds) / 2), rel=1e-7)


def height_energy(angles: Tensor) -> float:
    return 9.81 * float(np.dot(MASSES, centers(angles.numpy())[:, 2]))


def test_the_bias_is_that_of_lagranges_equations() -> None:
    """dM/dt w - grad(w M w / 2) + grad V, by finite differences."""
    env, state = make(**FREE)
    eps, w = 1e-6, state.rates
    down = torch.tensor([0.0, 0.0, -9.81], dtype=torch.float64)

    def matrix(angles: Tensor) -> Tensor:
        return env.arm.equations(env.arm.pose(angles), w, down)[0]

    steps = eps * torch.eye(6, dtype=torch.float64)
    slopes = torch.stack([(matrix(state.angles + e) - matrix(state.angles - e)) / (2 * eps) for e in steps], 1)
    motion = torch.einsum("nkij,nk,nj->ni", slopes, w, w) - torch.einsum("nkij,ni,nj->nk", slopes, w, w) / 2
    weight = [[(height_energy(a + e) - height_energy(a - e)) / (2 * eps) for e in steps] for a in state.angles.unbind()]
    bias = env.arm.equations(env.arm.pose(state.angles), w, down)[1]
    torch.testing.assert_close(bias, motion + torch.tensor(weight, dtype=torch.float64), rtol=1e-6, atol=1e-5)


def energy(env: ArmPose, state: ArmPoseState) -> Tensor:
    inertia = env.arm.equations(env.arm.pose(state.angles), state.rates, torch.zeros(3))[0] + 0.1 * torch.eye(6)
    turning = (state.rates.unsqueeze(1) @ inertia @ state.rates.unsqueeze(2)).flatten() / 2
    return turning + torch.tensor([height_energy(a) for a in state.angles], dtype=torch.float64)


def test_a_free_swing_keeps_its_energy_the_better_the_finer_the_steps() -> None:
    drifts = []
    for substeps in (8, 16, 32, 64):
        env, state = make(**FREE, substeps=substeps)
        after = state
        for _ in range(10):
            after, _, _ = env.step(after, torch.zeros(N, 6), None)
        assert (after.angles - state.angles).abs().max() > 0.5
        assert after.angles.abs().max() < 2 * math.pi
        drifts.append(float((energy(env, after) - energy(env, state)).abs().mean()))
    assert drifts[0] < 2.0  # J; on the way some 20 J go from height into motion
    for coarse, fine in pairwise(drifts):
        assert fine < 0.6 * coarse  # of first order


def test_friction_takes_energy_and_compensation_holds_the_arm() -> None:
    env, state = make(gravity_compensation=False)
    after, _, _ = env.step(state, torch.zeros(N, 6), None)
    assert (energy(env, after) < energy(env, state)).all()
    env, state = make()
    at_rest = dataclasses.replace(state, rates=torch.zeros(N, 6, dtype=torch.float64))
    held, _, _ = env.step(at_rest, torch.zeros(N, 6), None)
    torch.testing.assert_close(held.angles, at_rest.angles)
    assert not make(gravity_compensation=False)[0].step(at_rest, torch.zeros(N, 6), None)[0].rates.allclose(held.rates)


def test_joints_stop_after_a_whole_turn() -> None:
    env, state = make()
    for _ in range(100):
        state, _, _ = env.step(state, torch.ones(N, 6), None)
    assert state.angles.max() == 2 * math.pi
    assert (state.rates[state.angles == 2 * math.pi] == 0).all()


def test_rotation_vectors_are_those_of_another_library() -> None:
    one, other = Rotation.random(200, random_state=0), Rotation.random(200, random_state=1)
    theirs = (other * one.inv()).as_rotvec()
    ours = rotation_between(torch.tensor(other.as_matrix()), torch.tensor(one.as_matrix()))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    same = torch.tensor(one.as_matrix())
    assert rotation_between(same, same).abs().max() < 1e-12


def test_the_reward_is_what_it_says_and_the_target_can_be_reached() -> None:
    env, state = make()
    after, reward, terminated = env.step(state, torch.full((N, 6), 0.5), None)
    for i in range(N):
        origin, rotation = frames(after.angles[i].numpy())[-1]
        distance = np.linalg.norm(after.target[i].numpy() - origin)
        angle = (Rotation.from_matrix(after.facing[i].numpy()) * rotation.inv()).magnitude()
        assert float(reward[i]) == pytest.approx(-distance - 0.3 * angle - 0.02 * 0.25, abs=1e-9)
    assert not terminated.any()
    there = env.arm.pose(state.angles)
    assert torch.equal(env.info(state)["is_success"], torch.zeros(N, dtype=torch.bool))
    solved = dataclasses.replace(state, target=there.places[:, -1], facing=there.rotations[:, -1])
    still = dataclasses.replace(solved, rates=torch.zeros_like(state.rates))
    assert env.info(env.step(still, torch.zeros(N, 6), None)[0])["is_success"].all()


def test_the_baseline_reaches_the_pose_and_random_torques_do_not() -> None:
    vec = make_vec("rltrain/ArmPose-v0", 64)
    baseline, random = (evaluate_baseline(vec, who, 64) for who in ("baseline", "random"))
    assert baseline.mean_reward > -25
    assert random.mean_reward < baseline.mean_reward - 40
    assert baseline.successes.mean() > 0.9
