"""Runs in environments whose arguments a run folder cannot hold: asked for again, never guessed."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rltrain
from rltrain.errors import ConfigError

QUICK: dict[str, Any] = {
    "num_envs": 2,
    "total_timesteps": 64,
    "n_eval_episodes": 1,
    "device": "cpu",
    "progress": False,
    "trackers": ["csv"],
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
}


class Speed(enum.Enum):
    SLOW = 1
    FAST = 2


class Table:
    """As a DataFrame: nothing that a file of settings holds."""

    def __init__(self, reward: float) -> None:
        self.reward = reward


class Paid(gymnasium.Env[Any, Any]):
    """Three steps, each of which pays what the table says, times the speed; the bonus is infinite by default."""

    def __init__(
        self, table: Table, speed: Speed = Speed.SLOW, bonus: Any = None, shape: tuple[int, ...] = (2,)
    ) -> None:
        assert isinstance(shape, tuple)
        self.observation_space: spaces.Space = spaces.Box(-1, 1, shape, np.float32)
        self.action_space: spaces.Space = spaces.Discrete(2)
        self.pay = table.reward * speed.value
        self.n = 0

    def reset(self, **options: Any) -> Any:
        self.n = 0
        return np.zeros(self.observation_space.shape or (), np.float32), {}

    def step(self, action: Any) -> Any:
        self.n += 1
        return np.zeros(self.observation_space.shape or (), np.float32), self.pay, self.n == 3, False, {}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kwargs = {"table": Table(5.0), "speed": Speed.FAST, "bonus": np.float32(np.inf), "shape": (3, 2)}
    result = rltrain.train("ppo", Paid, env_kwargs=kwargs, run_dir=tmp_path_factory.mktemp("runs"), **QUICK)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward == 30
    return result.run_dir


def test_what_is_lost_is_asked_for_and_taken(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"made with table=Table\(\.\.\.\)") as caught:
        rltrain.load(run, env=Paid).evaluate(1)
    assert "env_kwargs={'table': ...}" in caught.value.fix
    policy = rltrain.load(run, env=Paid, env_kwargs={"table": Table(1.0)})  # the speed is read back
    assert policy.evaluate(2).mean_reward == 6
    assert policy.config.env.kwargs["bonus"] == np.inf
    assert isinstance(policy.config.env.kwargs["bonus"], np.float32)
    assert rltrain.load(run, env=Paid).evaluate(2, table=Table(2.0)).mean_reward == 12


def test_resume_asks_for_it_too_and_takes_nothing_else(run: Path) -> None:
    options: dict[str, Any] = {"env": Paid, "total_timesteps": 128, "progress": False}
    with pytest.raises(ConfigError, match=r"made with table=Table\(\.\.\.\)"):
        rltrain.resume(run, **options)
    with pytest.raises(ConfigError, match="env_kwargs has 'shape'"):
        rltrain.resume(run, env_kwargs={"table": Table(5.0), "shape": (3, 2)}, **options)
    before = (run / "config.yaml").read_text()
    result = rltrain.resume(run, env_kwargs={"table": Table(5.0)}, **options)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward == 30
    assert (run / "config.yaml").read_text() == before


def test_an_enum_that_the_signature_does_not_name_is_asked_for(tmp_path: Path) -> None:
    class Silent(Paid):
        def __init__(self, speed: Any = None) -> None:
            super().__init__(Table(1.0), speed)

    silent_run = rltrain.train("ppo", Silent, env_kwargs={"speed": Speed.FAST}, run_dir=tmp_path, **QUICK).run_dir
    with pytest.raises(ConfigError, match=r"made with speed=Speed\(\.\.\.\)"):
        rltrain.load(silent_run, env=Silent).evaluate(1)
    again = rltrain.load(silent_run, env=Silent, env_kwargs={"speed": Speed.SLOW})
    assert again.evaluate(1).mean_reward == 3
