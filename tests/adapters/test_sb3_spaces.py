"""Spaces that Stable-Baselines3 does not take as they are, in training, loading and export."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import rltrain
from rltrain.errors import ConfigError
from rltrain.sb3.exporter import export
from rltrain.sb3.importer import import_sb3
from rltrain.sb3.spaces import Adapted

ON: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
OFF: dict[str, Any] = {"learning_starts": 20, "buffer_size": 500, "batch_size": 16}
RUN: dict[str, Any] = {"total_timesteps": 128, "num_envs": 2, "num_threads": 1, "trackers": [], "progress": False}

SEEN: dict[str, spaces.Space] = {
    "nested": spaces.Dict(
        {
            "robot": spaces.Dict({"arm.joint": spaces.Box(-1.0, 1.0, (2,)), "type": spaces.Discrete(3, start=-1)}),
            "values": spaces.Box(-5.0, 5.0, ()),
            "many": spaces.MultiDiscrete([2, 3], start=[1, -1]),
        }
    ),
    "number": spaces.Box(-5.0, 5.0, ()),
    "shifted": spaces.Discrete(4, start=2),
    "shifted parts": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "picture and numbers": spaces.Dict(
        {"camera": spaces.Box(0, 255, (36, 36, 3), np.uint8), "joints": spaces.Box(-1.0, 1.0, (2,))}
    ),
    "picture": spaces.Box(0, 255, (36, 36, 3), np.uint8),
    "small picture": spaces.Dict({"camera": spaces.Box(0, 255, (7, 7, 3), np.uint8)}),
}
DONE: dict[str, spaces.Space] = {
    "shifted": spaces.Discrete(3, start=5),
    "shifted parts": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "number": spaces.Box(-1.0, 1.0, ()),
    "without bounds": spaces.Box(-np.inf, np.inf, (2,)),
    "bounds that are none": spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)),
}


class Strange(gymnasium.Env[Any, Any]):
    """Has the spaces that it is told to, and takes no other actions."""

    def __init__(self, sees: str = "nested", acts: str = "shifted") -> None:
        self.observation_space, self.action_space = SEEN[sees], DONE[acts]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.time += 1
        return self.observation_space.sample(), 1.0, self.time == 5, False, {}


def trained(algo: str, env: Any, folder: Path, agent: dict[str, Any], **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return rltrain.train(algo, env, run_dir=folder, agent=agent, **{**RUN, "n_eval_episodes": 2, **options}).run_dir


@pytest.mark.parametrize(
    ("algo", "sees", "acts"),
    [
        ("sb3/ppo", "nested", "shifted"),
        ("sb3/ppo", "number", "shifted parts"),
        ("sb3/a2c", "shifted", "number"),
        ("sb3/dqn", "nested", "shifted"),
        ("sb3/dqn", "shifted parts", "shifted"),
        ("sb3/sac", "nested", "number"),
    ],
)
def test_they_are_adapted_in_training_evaluation_and_loading(algo: str, sees: str, acts: str, tmp_path: Path) -> None:
    agent = {"sb3/ppo": ON, "sb3/a2c": {"n_steps": 8}}.get(algo, OFF)
    run = trained(algo, Strange, tmp_path, agent, env_kwargs={"sees": sees, "acts": acts})
    policy = rltrain.load(run, env=Strange)
    assert policy.evaluate(2).returns.tolist() == [5.0, 5.0]
    env = Strange(sees, acts)
    obs, _ = env.reset(seed=0)
    env.step(policy.predict(obs)[0])


def test_numbers_in_a_dict_are_normalised_by_name(tmp_path: Path) -> None:
    run = trained("sb3/ppo", Strange, tmp_path, {**ON, "normalize_obs": True})
    normalizer = rltrain.load(run, env=Strange).agent.normalizer
    assert isinstance(normalizer, VecNormalize)
    assert isinstance(normalizer.obs_rms, dict)
    assert len(normalizer.obs_rms) == 2  # the joint and the value, which no other name hides


@pytest.mark.parametrize(
    ("algo", "sees", "normalize"),
    [
        ("sb3/sac", "picture and numbers", "normalize_obs"),
        ("sb3/sac", "picture", "normalize_reward"),
        ("sb3/a2c", "picture and numbers", "normalize_obs"),
    ],
)
def test_pictures_with_their_channels_last_go_with_a_normaliser(
    algo: str, sees: str, normalize: str, tmp_path: Path
) -> None:
    """A replay buffer stores what lies below the normaliser, and networks take channels first."""
    agent = {**({"n_steps": 8} if algo == "sb3/a2c" else {**OFF, "buffer_size": 100}), normalize: True}
    run = trained(algo, Strange, tmp_path, agent, env_kwargs={"sees": sees, "acts": "number"}, total_timesteps=40)
    policy = rltrain.load(run, env=Strange)
    assert policy.evaluate(1).returns.tolist() == [5.0]
    env = Strange(sees, "number")
    env.step(policy.predict(env.reset(seed=0)[0])[0])
    rltrain.resume(run, env=Strange, total_timesteps=60, progress=False)


def test_small_pictures_are_refused_with_what_to_do(tmp_path: Path) -> None:
    kwargs = {"sees": "small picture", "acts": "shifted"}
    with pytest.raises(ConfigError, match=r"refuses this: .*Kernel size.* --env\.resize 36, or train ppo"):
        trained("sb3/ppo", Strange, tmp_path / "runs", ON, env_kwargs=kwargs)
    assert not (tmp_path / "runs").exists()
    trained("sb3/ppo", Strange, tmp_path / "runs", ON, env_kwargs=kwargs, env_options={"resize": 36})


@pytest.mark.parametrize(
    ("algo", "acts"),
    [("sb3/ppo", "without bounds"), ("sb3/sac", "without bounds"), ("sb3/td3", "bounds that are none")],
)
def test_actions_without_bounds_are_refused(algo: str, acts: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes no unbounded actions, .* finite bounds, or train with ppo"):
        trained(algo, Strange, tmp_path / "runs", {}, env_kwargs={"sees": "number", "acts": acts})
    assert not (tmp_path / "runs").exists()


def test_nothing_to_normalise_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to normalise"):
        trained("sb3/ppo", Strange, tmp_path, {**ON, "normalize_obs": True}, env_kwargs={"sees": "shifted"})


@pytest.mark.parametrize("space", [*SEEN.values()], ids=[*SEEN])
def test_adapted_values_are_in_the_adapted_space(space: spaces.Space) -> None:
    flat = spaces.Dict({"a.b": SEEN["number"], "type": SEEN["shifted"]}) if isinstance(space, spaces.Dict) else space
    adapted = Adapted(flat, spaces.Discrete(2))
    flat.seed(0)
    for _ in range(20):
        batch = {name: np.asarray(part)[None] for name, part in as_dict(flat.sample()).items()}
        theirs = as_dict(adapted.obs(batch if isinstance(flat, spaces.Dict) else batch[""]))
        row = {name: part[0] for name, part in theirs.items()}
        assert adapted.observation_space.contains(row if isinstance(flat, spaces.Dict) else row[""])


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"": value}


def test_what_needs_no_change_is_the_same() -> None:
    space = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Discrete(3)})
    adapted = Adapted(space, spaces.Discrete(2))
    assert adapted.same
    arrays = {"a": np.zeros((1, 2)), "b": np.zeros(1)}
    assert adapted.obs(arrays) is arrays


class Wide(gymnasium.Env[Any, Any]):
    """Actions from 0 to 512, and from -3 to 1."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Box(np.float32([0, -3]), np.float32([512, 1]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.time += 1
        return self.np_random.uniform(-1, 1, 3).astype(np.float32), float(action[0]) / 512, self.time == 5, False, {}


@pytest.fixture
def wide(clean_registries: None) -> str:
    gymnasium.register("Wide-v0", entry_point=Wide)
    return "Wide-v0"


def test_a_rescaled_policy_is_exported_in_the_environments_bounds_and_comes_back(wide: str, tmp_path: Path) -> None:
    run = trained("ppo", wide, tmp_path, ON)
    policy = rltrain.load(run)
    assert policy.translation.bounds is not None
    _, [path] = export(run, tmp_path / "policy.zip")
    theirs = PPO.load(path)
    assert theirs.action_space == Wide.action_space
    back = rltrain.load(import_sb3(path, wide, run_dir=str(tmp_path / "back")))
    assert back.translation.bounds is None
    for obs in np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32):
        ours = policy.predict(obs)[0]
        np.testing.assert_allclose(theirs.predict(obs, deterministic=True)[0], ours, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(back.predict(obs)[0], ours, rtol=1e-4, atol=1e-3)
    sampled = np.array([theirs.predict(np.zeros(3, np.float32))[0][0] for _ in range(300)])
    assert 100 < sampled.std() < 300  # a deviation of 1 is half of the range


@pytest.mark.parametrize("algo", ["ppo", "sb3/ppo"])
def test_a_policy_of_stable_baselines3_acts_as_before(algo: str, wide: str, tmp_path: Path) -> None:
    model = PPO("MlpPolicy", DummyVecEnv([Wide]), n_steps=16, batch_size=16, policy_kwargs={"net_arch": [8]}, seed=1)
    model.save(tmp_path / "model.zip")
    still = {**ON, "learning_rate": 1e-12, "policy_kwargs": {"net_arch": [8]}}
    run = trained(algo, wide, tmp_path, still, init_from=str(tmp_path / "model.zip"))
    obs = np.random.default_rng(0).uniform(-1, 1, (20, 3)).astype(np.float32)
    expected = model.predict(obs, deterministic=True)[0]
    np.testing.assert_allclose(rltrain.load(run).predict(obs)[0], expected, rtol=1e-4, atol=1e-4)
