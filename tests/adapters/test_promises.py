"""Environments that break Gymnasium's interface in the ways that people ask about: refused by name, before a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rltrain
from rltrain.errors import ConfigError, RunError
from rltrain.make import make_vec

QUICK: dict[str, Any] = {
    "num_envs": 2,
    "total_timesteps": 64,
    "n_eval_episodes": 1,
    "eval_max_steps": 30,
    "device": "cpu",
    "progress": False,
    "trackers": ["csv"],
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
    "env_options": {"vectorization": "sync"},
}


class Sound(gymnasium.Env[Any, Any]):
    """Nothing is wrong with it."""

    observation_space: Any = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def __init__(self) -> None:
        self.time = 0

    def look(self) -> Any:
        return np.full(3, self.time / 20, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.look(), 1.0, self.time >= 12, False, {}


class NoInfo(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], None


class TheSpace(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space, {}


class NumberAsSpace(Sound):
    observation_space = 0


class NoActions(Sound):
    action_space = None


class LostEntry(Sound):
    observation_space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(0.0, 1.0, (1,))})

    def look(self) -> Any:
        return {"a": 2}


class NoDict(LostEntry):
    def look(self) -> Any:
        return np.zeros(3, np.float32)


class NeedsData(Sound):
    def __init__(self, price_table: Any, *, window: int) -> None:
        super().__init__()


class OnlyWindow(Sound):
    def __init__(self, *, window_size: int) -> None:
        super().__init__()


class Countless(Sound):
    observation_space = spaces.Discrete(10**7)

    def look(self) -> Any:
        return 12_345


class TwoAgents(Sound):
    """Several agents in the clothes of one, as rware and lbforaging have them."""

    observation_space = spaces.Tuple([spaces.Box(-1.0, 1.0, (3,))] * 2)
    action_space = spaces.Tuple([spaces.Discrete(2)] * 2)

    def look(self) -> Any:
        return (super().look(), super().look())

    def step(self, action: Any) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, [reward, 0.5], *rest


REFUSED: list[tuple[type[Sound], str, str]] = [
    (NoInfo, "returns None as info from reset", "with a dict"),
    (TheSpace, r"breaks its promise in reset: the observation is no array: Box", "or its spaces"),
    (NumberAsSpace, "observation_space is 0, which is no space", r"Set self\.observation_space in __init__"),
    (NoActions, "action_space is None, which is no space", r"Set self\.action_space in __init__"),
    (LostEntry, r"the observation is the entries \['a'\], and its space has 'b'", "or its spaces"),
    (NoDict, r"the observation is array\(.*\), and its space has 'a'", "or its spaces"),
    (NeedsData, "needs the constructor arguments price_table", r"--env\.kwargs\.price-table VALUE"),
    (OnlyWindow, "needs the constructor arguments window_size", r"--env\.kwargs\.window-size VALUE"),
    (TwoAgents, "has 2 objectives, or agents: its reward is a vector", r"--env\.reward-weights 1 1"),
    (Countless, "Discrete with 10,000,000 values would be as many inputs", "its digits"),
]


@pytest.mark.parametrize(("cls", "cause", "fix"), REFUSED, ids=lambda x: getattr(x, "__name__", ""))
def test_it_is_refused_by_name_and_nothing_is_made(cls: type[Sound], cause: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=cause) as caught:
        rltrain.train("ppo", cls, run_dir=tmp_path, **QUICK)
    assert re.search(fix, caught.value.fix), caught.value.fix
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_several_agents_are_trained_as_one_if_their_rewards_are_weighed(tmp_path: Path) -> None:
    options = {**QUICK, "env_options": {"vectorization": "sync", "reward_weights": [1, 1]}}
    result = rltrain.train("ppo", TwoAgents, run_dir=tmp_path, **options)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward == 12 * 1.5


class NoInfoLater(Sound):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = super().step(action)
        return obs, reward, terminated, truncated, None if self.time > 5 else {}


def test_an_info_that_is_no_dict_is_named_with_its_step() -> None:
    vec = make_vec(NoInfoLater, 2, vectorization="sync")
    vec.reset(0)
    for _ in range(5):
        vec.step(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(RunError, match="Environment 0 broke its promise in step 6: info is None, and must be a dict"):
        vec.step(torch.zeros(2, dtype=torch.int64))
    vec.close()


class Undrawn(Sound):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()


class DrawsBadly(Undrawn):
    def render(self) -> Any:
        raise TypeError("a colour is missing")


@pytest.mark.parametrize(
    ("cls", "cause", "fix"),
    [
        (Undrawn, "'Undrawn' draws no pictures: it has no render()", "'rltrain eval' plays it without drawing"),
        (DrawsBadly, "'DrawsBadly' cannot be drawn: TypeError: a colour is missing", "Mend line"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_what_can_be_done(cls: type, cause: str, fix: str) -> None:
    vec: Any = make_vec(cls, 1, render=True)
    vec.reset(0)
    with pytest.raises(ConfigError) as caught:
        vec.render()
    assert cause in caught.value.cause
    assert fix in caught.value.fix
    vec.close()
