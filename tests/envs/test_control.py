"""The machines of envs/control obey physics: energy is conserved, and motion agrees with independent equations."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.evaluation.baselines import evaluate_baseline
from rltrain.make import make_env, make_vec
from rltrain.tree import leaves

N = 64


def start(name: str, seed: int = 0, **constants: Any) -> tuple[Any, Any]:
    env = make_env(f"rltrain/{name}-v0", dtype=torch.float64, **constants)
    return env, env.reset(N, torch.Generator().manual_seed(seed))


def run(env: TensorEnv, state: Any, action: Tensor, steps: int) -> Any:
    for _ in range(steps):
        state, _, _ = env.step(state, action, None)
    return state


def swing_up_energy(env: Any, s: Any) -> Tensor:
    """Of the cart and of a uniform rod of twice ``length``, J."""
    along = s.x_dot + env.length * s.theta_dot * s.theta.cos()
    up = -env.length * s.theta_dot * s.theta.sin()
    turning = env.masspole * (2 * env.length) ** 2 / 12 * s.theta_dot**2
    height = env.length * s.theta.cos()
    return (
        (env.masscart * s.x_dot**2 + env.masspole * (along**2 + up**2) + turning) / 2
        + env.masspole * env.gravity * height
    )  # fmt: skip


def double_energy(env: Any, s: Any) -> Tensor:
    """Of the cart and two uniform rods, from the speeds of their middles, J."""
    energy = env.masscart * s.x_dot**2 / 2
    joint_x, joint_y, joint_height = s.x_dot, torch.zeros_like(s.x), torch.zeros_like(s.x)
    for mass, length, theta, rate in (
        (env.mass1, env.length1, s.theta1, s.theta1_dot),
        (env.mass2, env.length2, s.theta2, s.theta2_dot),
    ):
        turn_x, turn_y = length * rate * theta.cos(), -length * rate * theta.sin()
        speed = (joint_x + turn_x / 2) ** 2 + (joint_y + turn_y / 2) ** 2
        height = joint_height + length * theta.cos() / 2
        energy = energy + mass * (speed + length**2 * rate**2 / 12) / 2 + mass * env.gravity * height
        joint_x, joint_y = joint_x + turn_x, joint_y + turn_y
        joint_height = joint_height + length * theta.cos()
    return energy


def reacher_energy(env: Any, s: Any) -> Tensor:
    """Of two uniform links in a horizontal plane, J."""
    outer, rate = s.shoulder + s.elbow, s.shoulder_dot + s.elbow_dot
    x = -env.length1 * s.shoulder.sin() * s.shoulder_dot - env.length2 / 2 * outer.sin() * rate
    y = env.length1 * s.shoulder.cos() * s.shoulder_dot + env.length2 / 2 * outer.cos() * rate
    inner = env.mass1 * env.length1**2 / 3 * s.shoulder_dot**2
    return (inner + env.mass2 * (x**2 + y**2 + env.length2**2 / 12 * rate**2)) / 2


@pytest.mark.parametrize(
    ("name", "constants", "energy", "rates"),
    [
        ("CartPoleSwingUp", {"masspole": 0.7, "length": 0.8}, swing_up_energy, ("x_dot", "theta_dot")),
        ("DoublePendulum", {"mass2": 0.5, "length1": 0.9}, double_energy, ("x_dot", "theta1_dot", "theta2_dot")),
        ("Reacher", {"friction": 0.0, "mass2": 2.0, "length1": 0.7}, reacher_energy, ("shoulder_dot", "elbow_dot")),
    ],
)
def test_energy_is_kept_without_force(name: str, constants: dict, energy: Any, rates: tuple[str, ...]) -> None:
    env, state = start(name, tau=0.002, **constants)
    rng = torch.Generator().manual_seed(1)
    fast = {rate: 2 * torch.randn(N, generator=rng, dtype=torch.float64) for rate in rates}
    state = dataclasses.replace(state, **fast)
    before = energy(env, state)
    after = energy(env, run(env, state, torch.zeros(N, *env.action_space.shape), 1000))
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    pushed = energy(env, run(env, state, torch.ones(N, *env.action_space.shape), 10))
    assert ((pushed - before).abs() > 1e-4).all()  # so the comparison can fail


@pytest.mark.parametrize("name", ["CartPoleSwingUp", "DoublePendulum", "Reacher"])
def test_work_is_force_times_way(name: str) -> None:
    """The energy gained is that of the force along the way of what it moves."""
    energies = {"CartPoleSwingUp": swing_up_energy, "DoublePendulum": double_energy, "Reacher": reacher_energy}
    env, state = start(name, tau=1e-3, **({"friction": 0.0} if name == "Reacher" else {}))
    action = torch.full((N, *env.action_space.shape), 0.5, dtype=torch.float64)
    after = run(env, state, action, 200)
    if name == "Reacher":
        way = (after.shoulder - state.shoulder) + (after.elbow - state.elbow)
        work = 0.5 * env.max_torque * way
    else:
        work = 0.5 * env.force_mag * (after.x - state.x)
    torch.testing.assert_close(energies[name](env, after) - energies[name](env, state), work, rtol=1e-7, atol=1e-9)


def test_the_quadrotor_flies_as_an_integrator_of_others_says() -> None:
    env, state = start("QuadrotorHover")
    action = torch.tensor([0.3, 0.25], dtype=torch.float64)
    after = run(env, state, action.expand(N, 2), 10)
    right, left = 5.0 * (1.3 / 2), 5.0 * (1.25 / 2)

    def rates(_: float, y: np.ndarray) -> list[float]:
        x_dot, z_dot, theta, theta_dot = y[2:]
        lift = (right + left) / 0.5
        return [
            x_dot,
            z_dot,
            -lift * math.sin(theta) - 0.05 / 0.5 * x_dot,
            lift * math.cos(theta) - 9.81 - 0.05 / 0.5 * z_dot,
            theta_dot,
            0.2 * (right - left) / 0.005,
        ]

    names = ("x", "z", "x_dot", "z_dot", "theta", "theta_dot")
    for i in range(4):
        y = [float(getattr(state, name)[i]) for name in names]
        theirs = solve_ivp(rates, (0, 0.4), y, rtol=1e-10, atol=1e-12).y[:, -1]
        ours = [float(getattr(after, name)[i]) for name in names]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


def test_the_reference_flies_an_eight_that_its_velocity_fits() -> None:
    env, state = start("QuadrotorTrack", drag=0.0)
    there = [env.reference(state.phase + shift, state.drawn) for shift in (-1e-6, 1e-6)]
    rate = 2 * math.pi / 6.0
    obs = env.observe(dataclasses.replace(state, x_dot=torch.zeros(N), z_dot=torch.zeros(N)))
    for axis in (0, 1):
        velocity = (there[1][axis] - there[0][axis]) / 2e-6 * rate
        torch.testing.assert_close(-obs[:, 2 + axis], velocity, rtol=0, atol=1e-6)
    later = env.reference(state.phase + 0.4 * rate, state.drawn)
    torch.testing.assert_close(obs[:, 9], (later[0] - state.x).clamp(-6, 6))


def test_a_rocket_falls_and_burns_as_newton_says() -> None:
    env, state = start("VerticalLanding")
    nothing = run(env, state, torch.zeros(N, dtype=torch.int64), 20)
    torch.testing.assert_close(nothing.y_dot, state.y_dot - 1.62)
    torch.testing.assert_close(nothing.x, state.x + state.x_dot)
    torch.testing.assert_close(nothing.y, state.y + state.y_dot - 1.62 * (20 * 21 / 2) * 0.05**2)
    upright = dataclasses.replace(state, angle=torch.zeros(N), angle_dot=torch.zeros(N))
    burning = run(env, upright, torch.full((N,), 2), 20)
    torch.testing.assert_close(burning.y_dot, state.y_dot - 1.62 + 4.0)
    turned = run(env, upright, torch.full((N,), 1), 20)
    torch.testing.assert_close(turned.angle_dot, torch.full((N,), 1.0, dtype=torch.float64))
    assert (turned.angle > 0).all()
    back = run(env, turned, torch.full((N,), 3), 20)
    torch.testing.assert_close(back.angle_dot, torch.zeros(N, dtype=torch.float64), rtol=0, atol=1e-12)


def landing(**changes: float) -> tuple[float, bool, bool]:
    """Reward, termination and success of a step that would be a soft landing but for ``changes``."""
    env, state = start("VerticalLanding", gravity=0.0)
    soft = {"x": 0.0, "y": 0.01, "angle": 0.0, "x_dot": 0.0, "y_dot": -0.5, "angle_dot": 0.0, **changes}
    state = dataclasses.replace(state, **{k: torch.full((N,), v, dtype=torch.float64) for k, v in soft.items()})
    after, reward, terminated = env.step(state, torch.zeros(N, dtype=torch.int64), None)
    return float(reward[0]), bool(terminated[0]), bool(env.info(after)["is_success"][0])


def test_what_a_soft_landing_is() -> None:
    reward, terminated, success = landing()
    assert (terminated, success) == (True, True)
    assert 100 <= reward < 101
    for hard in ({"y_dot": -1.1}, {"x_dot": 1.1}, {"angle": 0.25}, {"x": 2.1}):
        reward, terminated, success = landing(**hard)
        assert (terminated, success) == (True, False)
        assert -101 < reward < -99
    assert landing(y=1.0)[1:] == (False, False)
    assert landing(x=12.1, y=5.0)[1:] == (True, False)
    assert landing(y=18.1)[1:] == (True, False)


@pytest.mark.parametrize("name", ["VerticalLanding", "CarParking"])
def test_shaping_adds_up_to_nothing_but_the_ends(name: str) -> None:
    """The potential's gains over a path sum to its difference, so a way there and back earns nothing."""
    env, state = start(name)
    first, shaped = env._potential(state), torch.zeros(N, dtype=torch.float64)
    rng = torch.Generator().manual_seed(0)
    for _ in range(10):
        if name == "CarParking":
            action = 2 * torch.rand(N, 2, generator=rng, dtype=torch.float64) - 1
            cost = torch.full((N,), 0.02, dtype=torch.float64)
        else:
            action = torch.randint(4, (N,), generator=rng)
            cost = torch.tensor([0.0, 0.02, 0.1, 0.02], dtype=torch.float64)[action]
        state, reward, terminated = env.step(state, action, None)
        assert not terminated.any()
        shaped += reward + cost
    torch.testing.assert_close(shaped, env._potential(state) - first)


def test_a_car_drives_circles_about_the_point_that_its_steering_means() -> None:
    env, state = start("CarParking", tau=0.01)
    still = {
        "speed": torch.full((N,), 2.0, dtype=torch.float64),
        "steering": torch.full((N,), 0.4, dtype=torch.float64),
    }
    state = dataclasses.replace(state, **still)
    radius = 2.5 / math.tan(0.4)

    def center(s: Any) -> Tensor:
        return torch.stack((s.x - radius * s.heading.sin(), s.y + radius * s.heading.cos()), -1)

    after = run(env, state, torch.zeros(N, 2), 300)
    torch.testing.assert_close(after.heading - state.heading, torch.full((N,), 6.0 / radius, dtype=torch.float64))
    torch.testing.assert_close(center(after), center(state), rtol=0, atol=2e-4)


def test_touching_is_that_of_polygons_sampled_finely() -> None:
    """A car touches if any point of its outline is outside of the lane and the slot."""
    env, _ = start("CarParking")
    rng = np.random.default_rng(0)
    places = {
        "x": rng.uniform(-4, 4, 4000), "y": rng.uniform(-6, 7, 4000), "heading": rng.uniform(-4, 4, 4000)
    }  # fmt: skip
    ours = (env._clearance(*map(torch.as_tensor, places.values()), torch.empty(4000, 0)) >= 0).numpy()
    t = np.linspace(0, 1, 400)
    back, front, half = -0.2 * 4.2, 0.8 * 4.2, 0.9
    corners = np.array([(back, -half), (front, -half), (front, half), (back, half), (back, -half)])
    outline = np.concatenate([a + t[:, None] * (b - a) for a, b in pairwise(corners)])
    cos, sin = np.cos(places["heading"])[:, None], np.sin(places["heading"])[:, None]
    x = places["x"][:, None] + cos * outline[:, 0] - sin * outline[:, 1]
    y = places["y"][:, None] + sin * outline[:, 0] + cos * outline[:, 1]
    free = ((y >= 0) & (y <= 8) & (np.abs(x) <= 12)) | ((np.abs(x) <= 1.5) & (y >= -5.2) & (y <= 0))
    theirs = free.all(1)
    assert 100 < theirs.sum() < 3900
    # A car that straddles a neighbour with its corners free has passed through it: see the class.
    assert (ours & ~theirs).sum() <= 0.002 * len(ours)
    assert not (theirs & ~ours).any()


@pytest.mark.parametrize(
    ("name", "at_least"),
    [
        ("CartPoleSwingUp", 350), ("DoublePendulum", 495), ("QuadrotorHover", 230), ("QuadrotorTrack", 220),
        ("Reacher", -35), ("VerticalLanding", 85), ("VerticalLandingContinuous", 70),
    ],
)  # fmt: skip
def test_baselines_do_their_job_and_random_actions_do_not(name: str, at_least: float) -> None:
    vec = make_vec(f"rltrain/{name}-v0", 50)
    baseline, random = (evaluate_baseline(vec, who, 50).mean_reward for who in ("baseline", "random"))
    assert baseline > at_least
    assert random < at_least - 50


def test_float32_stays_near_float64() -> None:
    for name in ("CartPoleSwingUp", "DoublePendulum", "Reacher", "QuadrotorTrack", "CarParking"):
        env, state = start(name)
        single = make_env(f"rltrain/{name}-v0")
        fields = {f.name: getattr(state, f.name).float() for f in dataclasses.fields(state)}
        after = run(env, state, torch.full((N, *env.action_space.shape), 0.2), 5)
        other = run(single, type(state)(**fields), torch.full((N, *env.action_space.shape), 0.2), 5)
        for a, b in zip(leaves(after), leaves(other), strict=True):
            torch.testing.assert_close(a.float(), b, rtol=1e-4, atol=1e-4)
