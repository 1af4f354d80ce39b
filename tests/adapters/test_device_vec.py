"""Vector environments that step on the device themselves: stand-ins with the interfaces of Isaac Lab and rsl_rl."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.adapters.device_vec import vectorize
from rltrain.errors import ConfigError, RLTrainError, RunError
from rltrain.registry import EnvSpec

LIMIT = 10


class Drift:
    """Push a point, which drifts away, back to 0; over at a distance of 1.02, cut short after ten steps."""

    max_episode_length = LIMIT
    metadata: ClassVar[dict[str, Any]] = {"render_fps": 5}

    def __init__(self, num_envs: int, device: str, speed: float = 0.1, render_mode: str | None = None) -> None:
        self.num_envs, self.device, self.speed, self.render_mode = num_envs, device, speed, render_mode
        self.place, self.age = torch.zeros(num_envs), torch.zeros(num_envs, dtype=torch.int64)
        self.closed = False

    def _step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.place += self.speed + action[:, 0] * 0.2
        self.age += 1
        self.last = self.place.clone()
        over, time_outs = self.place.abs() > 1.02, self.age >= LIMIT
        self.place[over | time_outs] = 0.0  # in place, as simulators do
        self.age[over | time_outs] = 0
        return 1 - self.last.abs(), over, time_outs

    def close(self) -> None:
        self.closed = True


class AsIsaacLab(Drift):
    """Five values, groups of observations, spaces."""

    single_action_space = spaces.Box(-1, 1, (1,), np.float32)

    def _obs(self) -> dict[str, Tensor]:
        return {"policy": self.place.unsqueeze(1), "critic": torch.stack([self.place, self.age.float()], 1)}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed or 0)
        self.place.uniform_(-0.5, 0.5, generator=generator)
        self.age.zero_()
        return self._obs(), {}

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        reward, over, time_outs = self._step(action)
        return self._obs(), reward, over, time_outs, {"log": {}}

    def render(self) -> np.ndarray:
        assert self.render_mode == "rgb_array"
        return np.full((8, 8, 3), 7, np.uint8)


class AsRslRl(Drift):
    """Four values, time limits in extras, no spaces."""

    num_actions = 1

    def get_observations(self) -> dict[str, Tensor]:
        return {"actor": self.place.unsqueeze(1)}

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor, dict[str, Any]]:
        reward, over, time_outs = self._step(action)
        return self.get_observations(), reward, (over | time_outs).long(), {"time_outs": time_outs}


class WithFinal(AsIsaacLab):
    """Tells the observation before the reset."""

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor, Tensor, dict[str, Any]]:
        *outcome, _ = super().step(action)
        return (*outcome, {"final_obs": {"policy": self.last.unsqueeze(1)}})  # type: ignore[return-value]


def made(thing: Any, num_envs: int = 3, **options: Any) -> Any:
    return vectorize(EnvSpec("test/Drift-v0", thing), num_envs, **options)


def still(num_envs: int = 3) -> Tensor:
    return torch.zeros(num_envs, 1)


@pytest.mark.parametrize("kind", [AsIsaacLab, AsRslRl, WithFinal])
def test_what_a_step_gives(kind: type[Drift]) -> None:
    vec = made(kind)
    assert vec.single_observation_space.shape == (1,)
    assert vec.single_action_space.shape == (1,)
    assert vec.max_episode_steps == LIMIT
    vec.reset(0)
    vec._envs.place[:] = torch.tensor([0.0, 0.85, -0.95])  # which the observations of the reset are a view of
    first = vec.step(still())
    assert first.terminated.tolist() == first.truncated.tolist() == [False] * 3
    assert torch.allclose(first.reward, torch.tensor([0.9, 0.05, 0.15]))
    second = vec.step(still())
    assert second.terminated.tolist() == [False, True, False]
    assert torch.allclose(second.obs[:, 0], torch.tensor([0.2, 0.0, -0.75]))  # the second has begun again
    before = 1.05 if kind is WithFinal else 0.95  # what follows the action, or what it was chosen by
    assert torch.allclose(second.final_obs[:, 0], torch.tensor([0.2, before, -0.75]))
    assert torch.allclose(second.episode_return, torch.tensor([1.7, 0.0, 0.4]), atol=1e-6)
    assert second.episode_length.tolist() == [2, 2, 2]
    third = vec.step(still())
    assert third.episode_length.tolist() == [3, 1, 3]
    assert torch.allclose(third.episode_return[1], torch.tensor(0.9))
    for _ in range(7):
        last = vec.step(still())
    assert last.terminated.tolist() == [False, False, False]
    assert last.truncated.tolist() == [True, False, True]
    assert last.episode_length.tolist() == [10, 8, 10]


@pytest.mark.parametrize("kind", [AsIsaacLab, AsRslRl])
def test_an_end_and_a_time_limit_in_one_step(kind: type[Drift]) -> None:
    vec = made(kind, 1)
    vec.reset(0)
    vec._envs.place[:], vec._envs.age[:] = 0.95, LIMIT - 1
    step = vec.step(still(1))
    # Five values tell that the episode would have ended anyway; one flag with a time limit cannot.
    assert (bool(step.terminated), bool(step.truncated)) == ((True, False) if kind is AsIsaacLab else (False, True))


def test_a_seed_gives_the_same_starts() -> None:
    vec = made(AsIsaacLab)
    one, two, other = (vec.reset(seed).clone() for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_groups_of_observations() -> None:
    assert made(AsIsaacLab, observations="critic").reset(0).shape == (3, 2)
    with pytest.raises(ConfigError, match=r"no observations 'polcy'\. Did you mean 'policy'"):
        made(AsIsaacLab, observations="polcy")

    class Parts(AsIsaacLab):
        def _obs(self) -> dict[str, Any]:
            return {"arm": {"joints": self.place.unsqueeze(1).double()}, "touch": self.place.unsqueeze(1) > 0}

    obs = made(Parts).reset(0)
    assert {name: (tuple(part.shape), part.dtype) for name, part in obs.items()} == {
        "arm.joints": ((3, 1), torch.float32),
        "touch": ((3, 1), torch.float32),
    }


def without(name: str, value: Any) -> Any:
    return type("Broken", (AsIsaacLab,), {name: value})


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (lambda num_envs, device: 7, "made by a function that returns 7"),
        (lambda num_envs, device: AsIsaacLab(4, device), "has 4 environments, and 3 were asked for"),
        (without("single_action_space", None), "says nothing of its actions"),
        (without("_obs", lambda self: {"policy": np.zeros((3, 1))}), r"observation is array.* must be a tensor \(3, "),
        (without("_obs", lambda self: {"policy": torch.zeros(2, 1)}), r"observation is \(2, 1\)"),
        (without("reset", lambda self, seed: 1 / 0), "fails in reset: ZeroDivisionError"),
    ],
    ids=["nothing", "number", "actions", "arrays", "rows", "failing"],
)
def test_what_is_refused_at_the_start(thing: Any, said: str) -> None:
    with pytest.raises(RLTrainError, match=said):
        made(thing)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ((1, 2, 3), r"step gives \(1, 2, 3\)"),
        (({"policy": torch.zeros(3, 1)}, torch.zeros(3, 1), *[torch.zeros(3)] * 2, {}), r"reward is \(3, 1\)"),
        (({"policy": torch.zeros(3, 1)}, torch.zeros(3), [0, 0, 0], {}), r"done is \[0, 0, 0\]"),
    ],
    ids=["values", "reward", "done"],
)
def test_what_is_refused_in_a_step(outcome: Any, said: str) -> None:
    vec = made(without("step", lambda self, action: outcome))
    vec.reset(0)
    with pytest.raises(RunError, match=said):
        vec.step(still())


def test_what_cannot_be_made_is_closed() -> None:
    envs = AsIsaacLab(3, "cpu")
    with pytest.raises(ConfigError):
        made(lambda num_envs, device: envs, observations="nothing")
    assert envs.closed


def test_tensors_elsewhere_are_named() -> None:
    with pytest.raises(ConfigError, match="gives tensors on cpu, and training is on meta"):
        made(AsIsaacLab, device="meta")


@pytest.fixture
def drift() -> str:
    details: Any = {"vectorizer": "rltrain.adapters.device_vec:vectorize", "max_episode_steps": LIMIT}
    rltrain.register_env("test/Drift-v0", AsIsaacLab, **details)
    return "test/Drift-v0"


def test_training_learns_to_push_back(drift: str, tmp_path: Path) -> None:
    agent = {"n_steps": 20, "learning_rate": 0.01, "batch_size": 160, "n_epochs": 4}
    options: dict[str, Any] = {"num_envs": 16, "run_dir": tmp_path, "progress": False, "n_eval_episodes": 32}
    result = rltrain.train("ppo", drift, total_timesteps=6400, agent=agent, **options)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward > 8.5  # of 10; without a push 5.2
    policy = rltrain.load(result.run_dir)
    assert policy.predict(np.array([0.9], np.float32))[0] < policy.predict(np.array([-0.9], np.float32))[0]


def test_of_a_simulator_of_which_there_is_one(tmp_path: Path) -> None:
    alive: list[Drift] = []

    def only(num_envs: int, device: str) -> AsIsaacLab:
        if alive and not alive[-1].closed:
            raise RuntimeError("there is a simulator already")
        alive.append(AsIsaacLab(num_envs, device))
        return alive[-1]

    rltrain.register_env("test/Only-v0", only, vectorizer="rltrain.adapters.device_vec:vectorize")  # type: ignore[arg-type]
    options: dict[str, Any] = {"run_dir": tmp_path, "progress": False, "n_eval_episodes": 8, "num_envs": 8}
    with pytest.warns(UserWarning, match="final evaluation is in the environments of training"):
        result = rltrain.train("ppo", "test/Only-v0", total_timesteps=256, agent={"n_steps": 16}, **options)
    assert result.evaluation is not None
    assert alive[-1].closed


def test_it_is_drawn_by_its_own_camera(drift: str) -> None:
    with_picture = made(AsIsaacLab, 1, render=True)
    assert with_picture.render().shape == (8, 8, 3)
    assert with_picture.render_fps == 5
    with pytest.raises(ConfigError, match="takes no render_mode"):
        made(lambda num_envs, device: AsIsaacLab(num_envs, device), render=True)
