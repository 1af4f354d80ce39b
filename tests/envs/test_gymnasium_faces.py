"""Our environments in Gymnasium: gymnasium.make, make_vec, the environment checker and the wrappers."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from originals import same_step_statistics

from rltrain.adapters.to_gymnasium import SingleEnv, VectorEnv, make_single, make_vector
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.registry import env_specs

IDS = list(env_specs())
every_id = pytest.mark.parametrize("env_id", IDS)


@every_id
def test_stable_baselines3_accepts_it(env_id: str) -> None:
    env_checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on action ranges and image types
        env_checker.check_env(gymnasium.make(env_id).unwrapped)


def test_the_checker_accepts_masks() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        check_env(SingleEnv(Countdown))


def test_make_works_unprepared_and_without_the_module_prefix() -> None:
    code = (
        "import gymnasium; env = gymnasium.make('rltrain:rltrain/CartPole-v1'); env.reset(seed=0);"
        "print(len(env.step(1)), type(env.unwrapped).__name__, 'rltrain/CartPole-v1' in gymnasium.registry)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["5", "SingleEnv", "True"]
    assert isinstance(gymnasium.make("rltrain/CartPole-v1").unwrapped, make_single)


def test_the_registered_time_limit_is_added_by_make_alone() -> None:
    env = gymnasium.make("rltrain/Pendulum-v1")
    env.reset(seed=0)
    truncated = [env.step(np.zeros(1, dtype=np.float32))[3] for _ in range(200)]
    assert truncated == [False] * 199 + [True]
    assert not env.unwrapped.step(np.zeros(1, dtype=np.float32))[3]


def test_observations_share_no_memory_with_the_state() -> None:
    env = SingleEnv("rltrain/CartPole-v1")
    obs, _ = env.reset(seed=0)
    obs[:] = 100.0
    assert env.step(0)[2] is False


def test_infos_of_the_single_face_are_python_scalars() -> None:
    env = SingleEnv(Countdown, start=6, spread=0)
    assert env.reset(seed=0)[1] == {"is_success": False, "left": 6, "half": 3.0}
    info = env.step(2)[4]
    assert {name: type(value) for name, value in info.items()} == {"is_success": bool, "left": int, "half": float}
    assert env.step(2)[2:] == (True, False, {"is_success": True, "left": 0, "half": 0.0})


ACTIONS: list[tuple[str, Any, str]] = [
    ("rltrain/CartPole-v1", 2, "is not in Discrete"),
    ("rltrain/CartPole-v1", -1, "is not in Discrete"),
    ("rltrain/CartPole-v1", 0.5, "float64"),
    ("rltrain/CartPole-v1", None, "object"),
    ("rltrain/CartPole-v1", [0, 1], "shape"),
    ("rltrain/Pendulum-v1", 0.5, "shape"),
    ("rltrain/Pendulum-v1", [0.1, 0.2], "shape"),
    ("rltrain/Pendulum-v1", [float("nan")], "not finite"),
    ("rltrain/Pendulum-v1", ["left"], "type"),
]


@pytest.mark.parametrize(("env_id", "action", "words"), ACTIONS)
def test_a_bad_action_is_refused(env_id: str, action: Any, words: str) -> None:
    single, vector = SingleEnv(env_id), VectorEnv(env_id, 3)
    single.reset(seed=0)
    vector.reset(seed=0)
    with pytest.raises(InvalidAction, match=words):
        single.step(action)
    with pytest.raises(InvalidAction, match=words):
        vector.step([action] * 3)


def test_a_wrong_number_of_actions_is_refused() -> None:
    vector = VectorEnv("rltrain/CartPole-v1", 3)
    vector.reset(seed=0)
    with pytest.raises(InvalidAction, match=r"3 of Discrete\(2\)"):
        vector.step([0, 1])


def test_box_actions_are_clipped() -> None:
    ends = []
    for torque in (2.0, 50.0):
        env = SingleEnv("rltrain/Pendulum-v1")
        env.reset(seed=0)
        ends.append(env.step(np.array([torque]))[0])
    np.testing.assert_array_equal(*ends)


class Recorder(TensorEnv[Any]):
    """Gives back its last action as the observation."""

    action_space: spaces.Space

    def __init__(self, *, space: spaces.Space, **base: Any) -> None:
        super().__init__(**base)
        self.action_space = space
        self.observation_space = spaces.Box(-9, 9, space.shape)

    def reset(self, n: int, rng: torch.Generator | None) -> Any:
        return {"last": torch.zeros(n, *(self.action_space.shape or ()))}

    def step(self, state: Any, action: torch.Tensor, rng: torch.Generator | None) -> Any:
        return {"last": action.float()}, torch.zeros(len(action)), torch.zeros(len(action), dtype=torch.bool)

    def observe(self, state: Any) -> torch.Tensor:
        return state["last"]


SPACES = [
    (spaces.Discrete(3, start=2), 4, 5),
    (spaces.MultiDiscrete([2, 3]), [1, 2], [2, 0]),
    (spaces.MultiBinary(2), [1, 0], [2, 0]),
    (spaces.Box(-1, 1, (2, 2)), [[0.5, -1], [0, 1]], [0.5, 1]),
]


@pytest.mark.parametrize(("space", "good", "bad"), SPACES)
def test_every_kind_of_action_space(space: spaces.Space, good: Any, bad: Any) -> None:
    single, vector = SingleEnv(Recorder, space=space), VectorEnv(Recorder, 2, space=space)
    single.reset(seed=0)
    vector.reset(seed=0)
    np.testing.assert_array_equal(single.step(good)[0], np.array(good, dtype=np.float32))
    np.testing.assert_array_equal(vector.step([good, good])[0][1], np.array(good, dtype=np.float32))
    for sample in (vector.action_space.sample(), [single.action_space.sample()] * 2):
        vector.step(sample)
    with pytest.raises(InvalidAction):
        single.step(bad)
    with pytest.raises(InvalidAction):
        vector.step([good, bad])


def test_step_before_reset_is_refused() -> None:
    for env, action in ((SingleEnv("rltrain/CartPole-v1"), 0), (VectorEnv("rltrain/CartPole-v1", 1), [0])):
        with pytest.raises(ResetNeeded):
            env.step(action)


@every_id
def test_pictures(env_id: str) -> None:
    single = gymnasium.make(env_id, render_mode="rgb_array")
    vector = gymnasium.make_vec(env_id, num_envs=2, render_mode="rgb_array")
    single.reset(seed=0)
    vector.reset(seed=0)
    picture, pictures = single.render(), vector.render()
    assert isinstance(picture, np.ndarray)
    assert isinstance(pictures, tuple)
    assert len(pictures) == 2
    assert all(p.dtype == np.uint8 and p.shape == picture.shape for p in pictures)  # type: ignore[union-attr]
    assert single.metadata["render_modes"] == vector.metadata["render_modes"] == ["rgb_array"]


@pytest.mark.parametrize("make", [make_single, make_vector])
def test_render_modes_that_are_not_there(make: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no render_mode='ascii'"):
        make("rltrain/CartPole-v1", render_mode="ascii")
    with pytest.raises(ConfigError, match="Countdown has no render_mode='rgb_array'"):
        make(Countdown, render_mode="rgb_array")
    assert make(Countdown).metadata["render_modes"] == []
    env = make("rltrain/CartPole-v1")
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="rgb_array"):
        assert env.render() is None


def same_results(ours: Any, theirs: Any) -> None:
    """Equal keys, types and values, at every depth."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for name in ours:
            same_results(ours[name], theirs[name])
    elif isinstance(ours, tuple) or (isinstance(ours, np.ndarray) and ours.dtype == object):
        for a, b in zip(ours, theirs, strict=True):
            same_results(a, b)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def test_the_vector_face_returns_what_sync_vector_env_returns() -> None:
    """Countdown without spread has no chance in it, so both play the same games."""
    n, limit, constants = 4, 4, {"start": 6, "spread": 0}
    ours = VectorEnv(Countdown, n, limit, **constants)  # type: ignore[arg-type]
    theirs = SyncVectorEnv(
        [lambda: TimeLimit(SingleEnv(Countdown, **constants), limit)] * n,  # type: ignore[arg-type]
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space", "num_envs"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata == theirs.metadata
    same_results(ours.reset(seed=0), theirs.reset(seed=0))
    ours.action_space.seed(0)
    ends = {"terminated": 0, "truncated": 0, "both kinds": 0}
    for _ in range(100):
        actions = np.minimum(ours.action_space.sample(), ours.action_space.sample())
        mine, yours = ours.step(actions), theirs.step(actions)
        yours[3][yours[2]] = False  # Gymnasium's TimeLimit truncates what has terminated as well; we do not
        same_results(mine, yours)
        ends["terminated"] += int(mine[2].sum())
        ends["truncated"] += int(mine[3].sum())
        ends["both kinds"] += bool(mine[2].any() and mine[3].any())
    assert all(ends.values()), ends


def test_the_vector_face_keeps_its_results() -> None:
    env = VectorEnv("rltrain/CartPole-v1", 3, 4)
    env.reset(seed=0)
    results = [env.step([0, 1, 0]) for _ in range(6)]
    for a, b in pairwise(results):
        assert not any(np.shares_memory(x, y) for x, y in zip(a[:4], b[:4], strict=True))


def test_vector_seeds() -> None:
    def starts(seed: int | None) -> list[np.ndarray]:
        env = VectorEnv("rltrain/CartPole-v1", 4)
        return [env.reset(seed=seed)[0], env.reset()[0]]

    assert data_equivalence(starts(1), starts(1), exact=True)
    first, second = starts(1)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, starts(2)[0])
    assert not np.array_equal(starts(None)[0], starts(None)[0])
    assert len({tuple(row) for row in first.tolist()}) == 4
    env = VectorEnv("rltrain/CartPole-v1", 4)
    with pytest.raises(ConfigError, match="one seed"):
        env.reset(seed=[1, 2, 3, 4])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one by one"):
        env.reset(options={"reset_mask": np.ones(4, dtype=bool)})


def test_make_vec_passes_limits_and_constants() -> None:
    env = gymnasium.make_vec("rltrain/CartPole-v1", num_envs=2, max_episode_steps=9, gravity=1.5, device="cpu")
    assert isinstance(env, make_vector)
    assert env.vec.max_episode_steps == 9
    assert float(env.vec.env.gravity) == 1.5  # type: ignore[attr-defined]
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.spec is not None
    assert gymnasium.make_vec("rltrain/CartPole-v1").vec.max_episode_steps == 500  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="Did you mean 'gravity'"):
        gymnasium.make_vec("rltrain/CartPole-v1", num_envs=2, gravty=1.5)
    with pytest.raises(ConfigError, match="Did you mean 'gravity'"):
        gymnasium.make("rltrain/CartPole-v1", gravty=1.5)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_gymnasiums_own_vectorisation(mode: str) -> None:
    env = gymnasium.make_vec("rltrain/CartPole-v1", num_envs=2, vectorization_mode=mode)
    try:
        obs, _ = env.reset(seed=0)
        np.testing.assert_array_equal(obs[1], SingleEnv("rltrain/CartPole-v1").reset(seed=1)[0])
        obs, rewards, *_ = env.step(np.array([0, 1]))
        assert obs.shape == (2, 4)
        assert rewards.tolist() == [1.0, 1.0]
    finally:
        env.close()


@same_step_statistics
def test_record_episode_statistics() -> None:
    env = RecordEpisodeStatistics(gymnasium.make_vec("rltrain/CartPole-v1", num_envs=8))
    env.reset(seed=0)
    env.action_space.seed(0)
    lengths, seen = np.zeros(8, dtype=int), 0
    for _ in range(100):
        *_, terminated, truncated, infos = env.step(env.action_space.sample())
        lengths += 1
        done = terminated | truncated
        if done.any():
            np.testing.assert_array_equal(infos["episode"]["l"][done], lengths[done])
            np.testing.assert_array_equal(infos["episode"]["r"][done], lengths[done])
            seen += int(done.sum())
        lengths[done] = 0
    assert seen == env.episode_count > 8


def test_closing_twice_is_closing_once() -> None:
    for env in (gymnasium.make("rltrain/CartPole-v1"), gymnasium.make_vec("rltrain/CartPole-v1", num_envs=2)):
        assert [env.close() for _ in range(2)] == [None, None]
