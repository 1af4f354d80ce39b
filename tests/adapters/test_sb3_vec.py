"""Our environments as a VecEnv of Stable-Baselines3: its semantics, compared with our step."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium.error import InvalidAction
from sb3_contrib import MaskablePPO
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecFrameStack, VecMonitor, VecNormalize

from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.sb3.vec_env import SB3VecEnv, make_sb3_vec
from rltrain.vec import VecStep

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"


class Spy:
    """A vector environment that keeps what its steps gave."""

    def __init__(self, vec: Any) -> None:
        self.__dict__.update(vec=vec, steps=[])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vec, name)

    def step(self, action: torch.Tensor) -> VecStep:
        step = self.vec.step(action)
        copy = [x.clone() if isinstance(x, torch.Tensor) else {k: v.clone() for k, v in x.items()} for x in step]
        self.steps.append(VecStep(*copy))
        return step


@pytest.mark.parametrize("limit", [4, 100])
def test_a_step_says_what_ours_says(limit: int) -> None:
    spy = Spy(make_vec(Countdown, 5, max_episode_steps=limit))
    env = SB3VecEnv(spy)
    env.seed(3)
    obs = env.reset()
    assert isinstance(obs, dict)
    assert {name: part.shape for name, part in obs.items()} == {"observation": (5, 2), "action_mask": (5, 3)}
    rng = np.random.default_rng(0)
    seen = {"terminated": 0, "truncated": 0, "going on": 0}
    for _ in range(30):
        obs, reward, done, infos = env.step(rng.integers(2, size=5))
        assert isinstance(obs, dict)
        step = spy.steps[-1]
        assert isinstance(step.obs, dict)
        assert isinstance(step.final_obs, dict)
        assert np.array_equal(obs["observation"], step.obs["observation"])
        assert reward.dtype == np.float32
        assert np.array_equal(reward, step.reward)
        assert np.array_equal(done, step.terminated | step.truncated)
        assert len(infos) == 5
        for i, info in enumerate(infos):
            assert info["left"] == step.info["left"][i]
            assert info["TimeLimit.truncated"] is bool(step.truncated[i])
            assert ("episode" in info) == ("terminal_observation" in info) == bool(done[i])
            kind = "terminated" if step.terminated[i] else "truncated" if step.truncated[i] else "going on"
            seen[kind] += 1
            if done[i]:
                assert info["is_success"] is bool(step.info["is_success"][i])
                assert (info["episode"]["r"], info["episode"]["l"]) == (step.episode_return[i], step.episode_length[i])
                for name, part in info["terminal_observation"].items():
                    assert np.array_equal(part, step.final_obs[name][i])
    assert seen["going on"]
    assert seen["truncated" if limit == 4 else "terminated"]


def test_infos_are_made_when_asked_for() -> None:
    env = make_sb3_vec(CARTPOLE, 4, seed=0)
    env.reset()
    infos: Any = env.step(np.zeros(4, dtype=np.int64))[3]
    assert infos._rows == {}
    infos[2]["note"] = 1
    assert infos[2] == {"TimeLimit.truncated": False, "note": 1}
    assert infos[-2] is infos[2]
    assert infos[1:3] == [{"TimeLimit.truncated": False}, infos[2]]
    assert [len(info) for info in infos] == [1, 1, 2, 1]
    with pytest.raises(IndexError):
        infos[4]
    assert env.step(np.zeros(4, dtype=np.int64))[3][2] == {"TimeLimit.truncated": False}


def test_what_was_handed_out_does_not_change() -> None:
    env = make_sb3_vec(CARTPOLE, 3, seed=0)
    first = env.reset()
    assert isinstance(first, np.ndarray)
    kept = first.copy()
    obs, reward, _, _ = env.step(np.ones(3, dtype=np.int64))
    assert isinstance(obs, np.ndarray)
    copies = obs.copy(), reward.copy()
    reward += 7  # as Stable-Baselines3 does where it bootstraps
    _, after, _, _ = env.step(np.ones(3, dtype=np.int64))
    assert np.array_equal(first, kept)
    assert np.array_equal(obs, copies[0])
    assert np.array_equal(after, copies[1])


def test_seeds_repeat_and_go_on() -> None:
    env, twin = make_sb3_vec(CARTPOLE, 3, seed=5), make_sb3_vec(CARTPOLE, 3)
    assert list(twin.seed(5)) == [5, 6, 7]
    first = env.reset()
    assert np.array_equal(first, twin.reset())
    second = env.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(second, twin.reset())


def test_attributes_and_methods() -> None:
    env = make_sb3_vec(CARTPOLE, 3, seed=0, render_mode="rgb_array")
    assert env.get_attr("gravity") == pytest.approx([9.8] * 3)
    assert env.get_attr("max_episode_steps", indices=[0, 2]) == [500, 500]
    assert env.get_attr("render_mode") == ["rgb_array"] * 3
    assert env.has_attr("length")
    assert not env.has_attr("wings")
    with pytest.raises(AttributeError, match="wings"):
        env.get_attr("wings")
    env.set_attr("gravity", 1.6)
    assert isinstance(env.env.gravity, torch.Tensor)
    assert env.get_attr("gravity", 1) == pytest.approx([1.6])
    with pytest.raises(ValueError, match="share one environment"):
        env.set_attr("gravity", 3.7, indices=[0])
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(VecMonitor, indices=[1]) == [False]  # type: ignore[arg-type]
    env.reset()
    assert env.env_method("state_dict", indices=[0])[0]["length"].shape == (3,)
    pictures = env.get_images()
    assert [picture.shape for picture in pictures if picture is not None] == [pictures[0].shape] * 3  # type: ignore[union-attr]
    assert np.array_equal(env.env_method("render", indices=[1])[0], pictures[1])
    assert env.render().shape[2] == 3  # type: ignore[union-attr]
    env.close()


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ConfigError, match="render_mode='human'"):
        make_sb3_vec(CARTPOLE, 2, render_mode="human")
    with pytest.raises(ConfigError, match="render_mode='rgb_array'"):
        make_sb3_vec(Countdown, 2, render_mode="rgb_array")
    env = make_sb3_vec(CARTPOLE, 2, seed=0)
    env.reset()
    for wrong in (np.array([0, 2]), np.zeros(3, dtype=np.int64)):
        with pytest.raises(InvalidAction):
            env.step(wrong)


def test_evaluate_policy_counts_what_we_count() -> None:
    """An episode of Countdown returns where it began, or more where the last step took too much."""

    class TakeOne:
        def predict(self, obs: dict[str, np.ndarray], **_: Any) -> tuple[np.ndarray, None]:
            return np.zeros(len(obs["observation"]), dtype=np.int64), None

    env = make_sb3_vec(Countdown, 4, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it warns of environments without a Monitor
        returns, lengths = evaluate_policy(TakeOne(), env, 12, return_episode_rewards=True)  # type: ignore[arg-type]
    assert len(returns) == 12  # type: ignore[arg-type]
    assert returns == lengths
    assert set(returns) <= set(range(6, 11))  # type: ignore[arg-type]


def filled(model: Any, steps: int) -> Any:
    """Trains, and sees to it that the episodes were noted."""
    model.learn(steps)
    model.dump_logs()
    assert len(model.ep_info_buffer) > 0
    assert np.isfinite(model.ep_info_buffer[0]["r"])
    return model


def test_algorithms_learn_behind_its_wrappers() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You have specified a mini-batch")
        env = VecCheckNan(VecFrameStack(make_sb3_vec(CARTPOLE, 4, seed=0), 3), raise_exception=True)
        filled(PPO("MlpPolicy", env, n_steps=32, n_epochs=1, device="cpu", seed=0), 256)
        env = VecFrameStack(make_sb3_vec(CARTPOLE, 4, seed=0), 2)
        filled(DQN("MlpPolicy", env, learning_starts=20, buffer_size=500, device="cpu", seed=0), 200)
    normalized = VecNormalize(make_sb3_vec(PENDULUM, 4, seed=0, max_episode_steps=10))
    model = filled(SAC("MlpPolicy", normalized, learning_starts=40, buffer_size=500, device="cpu", seed=0), 80)
    assert isinstance(normalized.obs_rms.mean, np.ndarray)
    assert normalized.obs_rms.count > 80
    assert np.isfinite(evaluate_policy(model, normalized, 4)[0])


def test_normalised_terminal_observations_are_of_the_right_row() -> None:
    spy = Spy(make_vec(PENDULUM, 3, max_episode_steps=2))
    env = VecNormalize(SB3VecEnv(spy), norm_reward=False)
    env.reset()
    for _ in range(2):
        _, _, done, infos = env.step(np.zeros((3, 1), dtype=np.float32))
    assert done.all()
    expected = env.normalize_obs(spy.steps[-1].final_obs.numpy())
    assert np.allclose([info["terminal_observation"] for info in infos], expected)


def test_maskable_ppo_sees_the_masks() -> None:
    env = make_sb3_vec(Countdown, 4, seed=0)
    with pytest.raises(RuntimeError, match="reset"):
        env.env_method("action_masks")
    obs = env.reset()
    assert isinstance(obs, dict)
    assert np.array_equal(np.stack(env.env_method("action_masks")), obs["action_mask"].astype(bool))
    model = MaskablePPO("MultiInputPolicy", env, n_steps=16, batch_size=64, n_epochs=1, device="cpu", seed=0)
    filled(model, 64)
    assert np.mean(model.ep_success_buffer) == 1.0  # what is too much is masked
    assert not make_sb3_vec(CARTPOLE, 1).has_attr("action_masks")
