"""Our dynamics equal Gymnasium's: the same states and actions lead to the same states."""

import dataclasses
import math
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import continuous_mountain_car

from rltrain.env import TensorEnv
from rltrain.make import make_env

STEPS = 5_000
HILL = {"min_position": -1.0, "max_position": 0.9, "max_speed": 0.05, "goal_position": 0.7, "goal_velocity": 0.01}
CONSTANTS: dict[str, list[dict[str, Any]]] = {
    "Acrobot-v1": [
        {},
        {"equations": "nips"},
        {
            "dt": 0.1, "link_length_1": 1.4, "link_mass_1": 0.7, "link_mass_2": 1.6, "link_com_pos_1": 0.6,
            "link_com_pos_2": 0.3, "link_moi": 0.8, "max_vel_1": 5.0, "max_vel_2": 7.0,
        },
    ],
    "CartPole-v1": [
        {},
        {"gravity": 3.7, "masscart": 2.0, "masspole": 0.3, "length": 0.8, "force_mag": 7.3, "tau": 0.01},
    ],
    "MountainCar-v0": [{}, {"force": 0.0013, "gravity": 0.0021, **HILL}],
    "MountainCarContinuous-v0": [{}, {"power": 0.0022, **HILL}],
    "Pendulum-v1": [{}, {"g": 3.7, "m": 0.6, "l": 1.7, "max_torque": 1.1, "max_speed": 5.0, "dt": 0.03}],
}  # fmt: skip
CASES = [(name, constants) for name, variants in CONSTANTS.items() for constants in variants]
FIELDS = {
    "Acrobot-v1": ("theta1", "theta2", "theta1_dot", "theta2_dot"),
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Pendulum-v1": ("th", "thdot"),
}
WIDE = {  # states far off the usual ones
    "Acrobot-v1": (math.pi, math.pi, 13.0, 30.0),
    "CartPole-v1": (2.5, 8.0, 0.25, 8.0),
    "MountainCar-v0": (1.3, 0.08),
    "MountainCarContinuous-v0": (1.3, 0.08),
    "Pendulum-v1": (40.0, 9.0),
}


def set_constants(env: Any, constants: dict[str, Any]) -> None:
    """Gives Gymnasium's environment our constants, under its own names."""
    for key, value in constants.items():
        theirs = "book_or_nips" if key == "equations" else key
        setattr(env, theirs if hasattr(env, theirs) else theirs.upper(), value)
    if hasattr(env, "polemass_length"):
        env.total_mass = env.masspole + env.masscart
        env.polemass_length = env.masspole * env.length


class Unrounded:
    """NumPy, as far as Gymnasium's MountainCarContinuous needs it, without the rounding of states to float32."""

    float32 = np.float32

    @staticmethod
    def array(values: Any, dtype: Any) -> np.ndarray:
        return np.array(values, dtype=np.float64)


def gymnasium_steps(name: str, constants: dict, dtype: type, wide: bool) -> dict[str, np.ndarray]:
    """STEPS random steps of Gymnasium's environment from states that fit ``dtype``, with autoreset."""
    env = gymnasium.make(name).unwrapped
    set_constants(env, constants)
    discrete = isinstance(env.action_space, gymnasium.spaces.Discrete)
    rng = np.random.default_rng(0)
    rows: dict[str, list] = {key: [] for key in ("state", "action", "next", "obs", "reward", "terminated")}
    ended, age = True, 0
    for i in range(STEPS):
        if ended or age == 200:
            env.reset(seed=i)
            age = 0
        if wide:
            env.state = rng.uniform(-1, 1, len(WIDE[name])) * WIDE[name]
            env.steps_beyond_terminated = None
        env.state = state = np.asarray(env.state).astype(dtype).astype(np.float64)
        action: Any = rng.uniform(-3, 3, 1).astype(dtype).astype(np.float64)
        if discrete:
            action = int(rng.integers(env.action_space.n))
        with patch.object(continuous_mountain_car, "np", Unrounded):
            obs, reward, ended, _, _ = env.step(action)
        age += 1
        for key, value in zip(rows, (state, action, env.state, obs, reward, ended), strict=True):
            rows[key].append(value)
    return {key: np.array(value) for key, value in rows.items()}


def our_steps(env: TensorEnv, name: str, theirs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same steps, in one batch."""
    columns = torch.as_tensor(theirs["state"], dtype=env.dtype).unbind(-1)
    state = dataclasses.replace(env.reset(len(columns[0]), None), **dict(zip(FIELDS[name], columns, strict=True)))
    after, reward, terminated = env.step(state, torch.as_tensor(theirs["action"]), None)
    columns = [getattr(after, field) for field in FIELDS[name]]
    return {
        "next": torch.stack(columns, -1).numpy(),
        "obs": env.observe(after).numpy(),
        "reward": reward.numpy(),
        "terminated": terminated.numpy(),
    }


@pytest.mark.parametrize("wide", [False, True], ids=["usual", "wide"])
@pytest.mark.parametrize(("name", "constants"), CASES)
def test_float64_agrees_to_1e_12(name: str, constants: dict, wide: bool) -> None:
    theirs = gymnasium_steps(name, constants, np.float64, wide)
    ours = our_steps(make_env(f"rltrain/{name}", dtype=torch.float64, **constants), name, theirs)
    assert ours["next"].dtype == ours["reward"].dtype == ours["obs"].dtype == np.float64
    rtol = 1e-12 if wide else 0  # of Acrobot's fastest states Gymnasium's own rounding makes up to 5e-12 rad/s
    np.testing.assert_allclose(ours["next"], theirs["next"], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(ours["reward"], theirs["reward"], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(ours["terminated"], theirs["terminated"])
    np.testing.assert_allclose(ours["obs"], theirs["obs"], rtol=2**-23, atol=1e-12)  # theirs is rounded to float32
    if name == "CartPole-v1" or (wide and name != "Pendulum-v1"):
        assert 20 < theirs["terminated"].sum() < STEPS - 20


@pytest.mark.parametrize("name", CONSTANTS)
def test_float32_agrees_to_1e_5(name: str) -> None:
    theirs = gymnasium_steps(name, {}, np.float32, wide=False)
    ours = our_steps(make_env(f"rltrain/{name}"), name, theirs)
    assert ours["next"].dtype == ours["reward"].dtype == ours["obs"].dtype == np.float32
    for key in ("next", "obs", "reward"):
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-5)
    near = np.zeros(STEPS, dtype=bool)  # rounding may decide only where the threshold is that near
    if name == "CartPole-v1":
        limits = [2.4, math.inf, 12 * 2 * math.pi / 360, math.inf]
        near = (np.abs(np.abs(theirs["next"]) - limits) < 1e-5).any(-1)
    assert near.mean() < 0.01
    np.testing.assert_array_equal(ours["terminated"][~near], theirs["terminated"][~near])


STARTS = {
    "Acrobot-v1": [(0.0, 0.1)] * 4,
    "CartPole-v1": [(0.0, 0.05)] * 4,
    "MountainCar-v0": [(-0.5, 0.1)],
    "MountainCarContinuous-v0": [(-0.5, 0.1)],
    "Pendulum-v1": [(0.0, math.pi), (0.0, 1.0)],
}


@pytest.mark.parametrize("name", STARTS)
def test_starts_are_uniform_in_gymnasiums_range(name: str) -> None:
    state = make_env(f"rltrain/{name}", dtype=torch.float64).reset(20_000, torch.Generator().manual_seed(0))
    for field in FIELDS[name][len(STARTS[name]) :]:
        assert (getattr(state, field) == 0).all()
    for field, (middle, bound) in zip(FIELDS[name], STARTS[name], strict=False):
        values = (getattr(state, field) - middle) / bound
        assert values.abs().max() <= 1
        quantiles = torch.quantile(values, torch.linspace(0, 1, 11, dtype=torch.float64))
        torch.testing.assert_close(quantiles, torch.linspace(-1, 1, 11, dtype=torch.float64), rtol=0, atol=0.03)


@pytest.mark.parametrize("name", CONSTANTS)
def test_spaces_and_limits_are_gymnasiums(name: str) -> None:
    theirs, ours = gymnasium.make(name), gymnasium.make(f"rltrain/{name}")
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.spec is not None
    assert theirs.spec is not None
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    assert ours.spec.reward_threshold == theirs.spec.reward_threshold
    assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
