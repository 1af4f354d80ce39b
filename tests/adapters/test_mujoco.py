"""MuJoCo's tasks stepped by threads: every number as Gymnasium's own environments give it, and exact resume."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

import rltrain
from rltrain.adapters.from_gymnasium import GymVecEnv
from rltrain.adapters.gymnasium_ids import make_recipe
from rltrain.adapters.mujoco_loop import Simulations
from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import make_vec
from rltrain.registry import env_spec
from rltrain.runs.checkpoint import load_policy
from rltrain.spaces import random_actions
from rltrain.vec import VecStep

pytest.importorskip("mujoco", reason="MuJoCo is an extra: pip install -c constraints.txt -e '.[test,mujoco]'")

N = 5  # enough for two threads
WALKING = {"forward_reward_weight": 1.5, "ctrl_cost_weight": 0.2, "reset_noise_scale": 0.02, "frame_skip": 3}
WALKING |= {"exclude_current_positions_from_observation": False}
HEALTH = {"healthy_reward": 0.5, "terminate_when_unhealthy": False}
OTHERWISE: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": WALKING,
    "Hopper-v5": {**WALKING, **HEALTH, "healthy_state_range": (-3.0, 3.0), "healthy_z_range": (1.1, 9.0)},
    "Walker2d-v5": {**WALKING, **HEALTH, "healthy_angle_range": (-0.1, 0.1)},
    "Ant-v5": {
        **WALKING,
        **HEALTH,
        "main_body": "torso",
        "contact_force_range": (-0.1, 0.1),
        "contact_cost_weight": 2.0,
    },
    "Humanoid-v5": {**WALKING, **HEALTH, "contact_cost_range": (0.1, 0.2), "include_cvel_in_observation": False},
    "Reacher-v5": {"reward_dist_weight": 2.0, "reward_control_weight": 0.5, "frame_skip": 3},
}
"""Every task, and arguments of its constructor other than the default ones."""
CASES = [(id, kwargs) for id, other in OTHERWISE.items() for kwargs in ({}, other)]
NAMES = [f"{id} {'otherwise' if kwargs else 'by default'}" for id, kwargs in CASES]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the repository, because MuJoCo writes its warnings to a file where it is."""
    monkeypatch.chdir(tmp_path)


def play(vec: Any, steps: int, obs: Tensor | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Steps under the same random actions each time, as copies; from a reset unless there is an observation."""
    rng = torch.Generator().manual_seed(seed)
    first = vec.reset(7).clone() if obs is None else obs
    taken = []
    for _ in range(steps):
        step: VecStep = vec.step(random_actions(vec.single_action_space, vec.num_envs, vec.device, rng))
        taken.append(copy.deepcopy(step))
    return [{"obs": first}, *(step._asdict() for step in taken)]


def assert_equal(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("id", "kwargs"), CASES, ids=NAMES)
def test_rows_are_gymnasiums_own_environments(id: str, kwargs: dict[str, Any]) -> None:
    told = {"log_info": ["x_velocity", "reward_ctrl", "reward_dist", "distance_from_origin"], "max_episode_steps": 40}
    ours, theirs = (make_vec(id, N, vectorization=way, **told, **kwargs) for way in ("auto", "sync"))
    assert isinstance(ours, GymVecEnv)
    assert ours.vectorization == "vector"
    assert ours.single_observation_space == theirs.single_observation_space
    steps, expected = play(ours, 60), play(theirs, 60)
    assert_equal(steps, expected)
    assert sum(int((step["truncated"] | step["terminated"]).sum()) for step in steps[1:]) >= N
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("id", "kwargs"), CASES, ids=NAMES)
def test_a_hundred_steps_from_an_injected_state_in_double_precision(id: str, kwargs: dict[str, Any]) -> None:
    recipe = make_recipe(env_spec(id), kwargs, None, atari=False, render=False)
    env: Any = gymnasium.make(id, **kwargs).unwrapped
    simulations = Simulations(recipe, env, 2)
    rng = np.random.default_rng(3)
    env.reset(seed=3)
    env.set_state(env.data.qpos + rng.normal(0, 0.1, env.model.nq), rng.normal(0, 1.0, env.model.nv))
    simulations.take(1, env)
    ends = 0
    for _ in range(100):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        obs, reward, terminated, _, _ = env.step(action)
        gain, ended, _ = simulations.step(np.stack([0 * action, action]))
        np.testing.assert_allclose(simulations.task.observe(simulations.now)[1], obs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gain[1], reward, rtol=1e-6 if np.__version__ < "2" else 1e-12)
        assert ended[1] == terminated
        ends += terminated
    assert bool(ends) == (id in ("Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5") and not kwargs)
    simulations.close()


@pytest.mark.parametrize("id", OTHERWISE)
def test_it_goes_on_where_its_state_was_saved(id: str) -> None:
    vec, other = (make_vec(id, N, max_episode_steps=30) for _ in range(2))
    assert vec.exact_resume
    obs = play(vec, 20)[-1]["obs"]
    saved = copy.deepcopy(vec.state_dict())
    expected = play(vec, 40, obs, seed=1)
    other.load_state_dict(saved)
    assert_equal(play(other, 40, obs, seed=1), expected)


def test_a_state_of_other_environments_is_refused() -> None:
    cheetah, hopper = make_vec("HalfCheetah-v5", 2), make_vec("Hopper-v5", 2)
    cheetah.reset(0)
    with pytest.raises(ValueError, match="another model or of another version of MuJoCo"):
        hopper.load_state_dict(cheetah.state_dict())
    with pytest.raises(CheckpointError, match="was stepped in a loop when it was made"):
        hopper.load_state_dict({})


def test_it_keeps_the_promises_of_a_vector_environment() -> None:
    report = rltrain.check_env("Hopper-v5")
    assert {finding.level for finding in report.findings} <= {"warning"}, report  # of its bounds, which are infinite


def test_a_resumed_run_is_the_one_that_went_on(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_envs": 2, "n_eval_episodes": 0, "seed": 3, "device": "cpu", "progress": False}
    options["agent"] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1}
    whole = rltrain.train("ppo", "Hopper-v5", total_timesteps=512, run_dir=str(tmp_path / "whole"), **options).run_dir
    part = rltrain.train("ppo", "Hopper-v5", total_timesteps=256, run_dir=str(tmp_path / "part"), **options).run_dir
    assert json.loads((part / "metadata.json").read_text())["exact_resume"] is True
    rltrain.resume(part, total_timesteps=512, progress=False)
    a, b = (load_policy(run / "checkpoints" / "step_000000000512") for run in (whole, part))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_is_not_the_task_itself_is_left_to_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

    class Backwards(HalfCheetahEnv):
        """A task of one's own."""

    assert make_vec(Backwards, 1).vectorization == "sync"  # type: ignore[attr-defined]
    assert make_vec("HalfCheetah-v4", 1).vectorization == "sync"  # type: ignore[attr-defined]
    monkeypatch.setattr(HalfCheetahEnv, "control_cost", lambda self, action: 0.0)  # as in a Gymnasium to come
    assert make_vec("HalfCheetah-v5", 1, reset_noise_scale=0.3).vectorization == "sync"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no vector form"):
        make_vec("HalfCheetah-v5", 1, reset_noise_scale=0.3, vectorization="vector")
