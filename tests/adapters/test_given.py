"""What an environment gives is looked at in every step: the first that does not fit is named, with its value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.errors import RLTrainError, RunError
from rltrain.make import make_vec

SPACES: dict[str, spaces.Space] = {
    "vector": spaces.Box(-1, 1, (3,), np.float32),
    "scalar": spaces.Box(-1, 1, (), np.float32),
    "bytes": spaces.Box(0, 255, (2, 2), np.uint8),
    "discrete": spaces.Discrete(4, start=-1),
    "multi": spaces.MultiDiscrete([[3, 5], [3, 5]], start=[[0, 1], [0, 1]]),
    "binary": spaces.MultiBinary(3),
    "dict": spaces.Dict({"a": spaces.Dict({"b": spaces.Box(0, 255, (2,), np.uint8)}), "c": spaces.Discrete(3)}),
}
GOOD: dict[str, Any] = {
    "vector": np.zeros(3, np.float32),
    "scalar": np.float32(0),
    "bytes": np.ones((2, 2), np.uint8),
    "discrete": 2,
    "multi": np.ones((2, 2), np.int64),
    "binary": np.ones(3, np.int8),
    "dict": {"a": {"b": np.ones(2, np.uint8)}, "c": np.int64(1)},
}


UNPRINTABLE = "unprintable"


class Unprintable:
    """Numbers whose text takes long, as that of a tensor does: it is only for errors."""

    def __init__(self, *numbers: float) -> None:
        self.array = np.array(numbers)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array.astype(dtype or self.array.dtype)

    def __repr__(self) -> str:
        raise AssertionError("nobody has to read this")


class Promises(gymnasium.Env[Any, Any]):
    """Gives what is asked for in its fifth step, and what is right before.

    Args:
        kind: Kind of observation.
        given: Values in place of those of the fifth step: ``obs``, ``reward``, ``terminated`` or ``truncated``.
        ends: Whether an episode ends with every other step.
    """

    def __init__(self, kind: str = "vector", given: dict[str, Any] | None = None, ends: bool = True) -> None:
        self.observation_space, self.action_space = SPACES[kind], spaces.Discrete(2)
        self.kind, self.given, self.ends, self.steps = kind, given or {}, ends, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return GOOD[self.kind], {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.steps += 1
        now = self.given if self.steps == 5 else {}
        ends = self.ends and self.steps % 2 == 0
        obs = now.get("obs", GOOD[self.kind])
        if obs is UNPRINTABLE:
            obs = Unprintable(0.25, 0.5, 1.0)
        return obs, now.get("reward", 1.0), now.get("terminated", ends), now.get("truncated", False), {}


def play(kind: str, given: dict[str, Any], **options: Any) -> Any:
    vec = make_vec(Promises, 3, vectorization="sync", kind=kind, given=given, **options)
    vec.reset(0)
    for _ in range(5):
        step = vec.step(torch.zeros(3, dtype=torch.int64))
    return step


WRONG = {
    "a scalar": ("vector", np.float32(0.5), "the observation is of shape (), and its space has (3,)"),
    "one number": ("vector", np.array([0.5]), "the observation is of shape (1,), and its space has (3,)"),
    "too many": ("vector", np.zeros(4), "the observation is of shape (4,)"),
    "a row": ("vector", np.zeros((1, 3)), "the observation is of shape (1, 3)"),
    "None": ("vector", None, "the observation is of shape ()"),
    "text": ("scalar", "left", "the observation holds no numbers: 'left'"),
    "a vector for a scalar": ("scalar", np.zeros(1), "the observation is of shape (1,), and its space has ()"),
    "a fraction": ("bytes", np.full((2, 2), 0.9), "the observation holds 0.9, and its space is of uint8"),
    "300": ("bytes", np.full((2, 2), 300), "the observation holds 300, and its space is of uint8"),
    "-1": ("bytes", [[0, -1], [0, 0]], "the observation holds -1, and its space is of uint8"),
    "NaN": ("bytes", np.full((2, 2), np.nan), "the observation holds nan, and its space is of uint8"),
    "above": ("discrete", 3, "the observation is 3, and its space is Discrete(4, start=-1)"),
    "below": ("discrete", np.int64(-2), "the observation is -2, and its space is Discrete(4, start=-1)"),
    "a half": ("discrete", 1.5, "the observation holds 1.5"),
    "a column above": ("multi", np.array([[1, 6], [1, 1]]), "the observation holds 6, and its space is"),
    "a column below": ("multi", np.array([[1, 1], [1, 0]]), "the observation holds 0, and its space is"),
    "2 for a bit": ("binary", np.array([0, 2, 1], np.int8), "the observation holds 2, and its space is MultiBinary(3)"),
    "a key": ("dict", {"a": {"b": np.full(2, 300)}, "c": 1}, "the observation 'a.b' holds 300"),
    "another key": ("dict", {"a": {"b": np.ones(2, np.uint8)}, "c": 7}, "the observation 'c' is 7"),
    "no key": ("dict", {"a": {"b": np.ones(2, np.uint8)}}, "'c'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_observations(name: str) -> None:
    kind, obs, said = WRONG[name]
    with pytest.raises(RunError) as caught:
        play(kind, {"obs": obs})
    assert said in caught.value.cause
    assert "Environment 0" in caught.value.cause
    assert "in step" in caught.value.cause
    if name != "no key":
        assert "in step 5:" in caught.value.cause


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"reward": [1.0, 2.0]}, "the reward is of shape (2,)"),
        ({"reward": None}, "the reward is no number: None"),
        ({"reward": "much"}, "the reward is no number: 'much'"),
        ({"reward": "1.0"}, "the reward is no number: '1.0'"),
        ({"terminated": None}, "terminated is neither true nor false: None"),
        ({"truncated": np.array([True, False])}, "truncated is neither true nor false"),
        ({"terminated": 2}, "terminated is neither true nor false: 2"),
    ],
    ids=str,
)
def test_rewards_and_ends(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=r"Environment 0 broke its promise in step 5") as caught:
        play("vector", given)
    assert said in caught.value.cause


FINE = {
    "a tensor": ("vector", torch.tensor([0.25, 0.5, 1.0]), [0.25, 0.5, 1.0]),
    "what is slow to print": ("vector", UNPRINTABLE, [0.25, 0.5, 1.0]),
    "another precision": ("vector", np.array([0.25, 0.5, 1.0]), [0.25, 0.5, 1.0]),
    "a list": ("vector", [0, 1, 0], [0.0, 1.0, 0.0]),
    "whole numbers of another type": ("bytes", np.full((2, 2), 200, np.int64), [[200, 200], [200, 200]]),
    "whole floats": ("discrete", 2.0, 2),
    "a scalar of an array": ("discrete", np.array(1), 1),
    "bools": ("binary", np.array([True, False, True]), [1, 0, 1]),
}


@pytest.mark.parametrize("name", FINE)
def test_what_means_the_same_is_taken(name: str) -> None:
    kind, obs, seen = FINE[name]
    step = play(kind, {"obs": obs, "reward": np.float64(2), "terminated": np.bool_(False)}, ends=False)
    assert step.obs[1].tolist() == seen
    assert step.reward.tolist() == [2.0] * 3


def test_the_first_observation_of_an_episode_is_looked_at_too() -> None:
    class Late(Promises):
        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            return (np.zeros(1) if self.steps else GOOD["vector"]), {}

    vec = make_vec(Late, 2, vectorization="sync")
    vec.reset(0)
    vec.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RunError, match=r"in reset 2: the observation is of shape \(1,\)"):
        vec.step(torch.zeros(2, dtype=torch.int64))


def test_a_worker_names_the_environment_by_its_own_number() -> None:
    vec = make_vec(Promises, 2, vectorization="async", kind="discrete", given={"obs": 9})
    vec.reset(0)
    for _ in range(4):
        vec.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RunError, match=r"Environment [01] broke its promise in step 5: the observation is 9"):
        vec.step(torch.zeros(2, dtype=torch.int64))
    vec.close()


@dataclass
class Count:
    steps: Tensor  # (N,)


class TensorPromises(rltrain.TensorEnv[Count]):
    """Breaks a promise in a step.

    Args:
        what: reward, reward_of_all, observation, nan or index.
        at: The step.
    """

    action_space = spaces.Discrete(2)

    def __init__(self, what: str = "", at: int = 3, **options: Any) -> None:
        super().__init__(**options)
        self.what, self.at, self.count = what, at, 0
        self.observation_space = spaces.Discrete(3) if what == "index" else spaces.Box(-1, 1, (2,))

    def reset(self, n: int, rng: torch.Generator | None) -> Count:
        return Count(torch.zeros(n))

    def step(self, state: Count, action: Tensor, rng: torch.Generator | None) -> tuple[Count, Tensor, Tensor]:
        self.count += 1
        due = self.count == self.at
        reward = torch.ones_like(state.steps)
        if due and self.what == "reward":
            reward = torch.ones(len(reward) + 1)
        if due and self.what == "reward_of_all":
            reward = torch.ones(())
        return Count(state.steps + 1), reward, torch.zeros_like(state.steps, dtype=torch.bool)

    def observe(self, state: Count) -> Tensor:
        due = self.count == self.at
        if self.what == "index":
            return torch.full_like(state.steps, 7 if due else 1, dtype=torch.int64)
        obs = torch.zeros(len(state.steps), 1 if due and self.what == "observation" else 2)
        return obs / 0 if due and self.what == "nan" else obs


def step_until(env: type, steps: int, **options: Any) -> None:
    vec: Any = make_vec(env, 4, **options)
    vec.reset(0)
    vec.env.count = 0  # some are stepped to look at what the environment gives, before it is used
    for _ in range(steps):
        vec.step(torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("what", ["reward", "reward_of_all"])
def test_a_reward_of_another_shape_is_named_in_every_step(what: str) -> None:
    with pytest.raises(RLTrainError, match=r"TensorPromises.step returned a reward of shape .* for 4 environments"):
        step_until(TensorPromises, 9, what=what, at=7)


def test_shapes_of_tensor_environments_are_sampled() -> None:
    with pytest.raises(RLTrainError, match=r"observe returned an observation of shape \(4, 1\)"):
        step_until(TensorPromises, 8, what="observation", at=8)


@pytest.mark.parametrize(("what", "said"), [("nan", "the observation is"), ("index", "the observation is 7")])
def test_numbers_of_tensor_environments_are_looked_at_under_debug(
    what: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_until(TensorPromises, 8, what=what)
    monkeypatch.setenv("RLTRAIN_DEBUG", "1")
    with pytest.raises(RLTrainError, match=r"in step 3 for environment 0") as caught:
        step_until(TensorPromises, 8, what=what)
    assert said in caught.value.cause
