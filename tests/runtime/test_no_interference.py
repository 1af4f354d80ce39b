"""Evaluating, filming, saving and logging leave no trace in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from bits import final_bits
from countdown import Countdown, CountdownState
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.runs.folder import RunFolder

PLAIN: dict[str, Any] = {
    "total_timesteps": 1_500,
    "num_envs": 4,
    "num_threads": 1,
    "eval_freq": 0,
    "save_freq": 0,
    "video_freq": 0,
    "n_eval_episodes": 0,
    "agent": {"n_steps": 64, "batch_size": 64, "n_epochs": 2, "normalize_obs": True, "normalize_reward": True},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "evaluation": {"eval_freq": 200, "n_eval_episodes": 3},
    "checkpoints": {"save_freq": 1, "keep_checkpoints": 1},
    "videos": {"video_freq": 700},
    "rare logs": {"log_interval": 4},
    "a small window": {"stats_window_size": 3},
    "everything": {"eval_freq": 300, "n_eval_episodes": 3, "save_freq": 300, "video_freq": 1_000, "progress": True},
}


class Careless(Countdown):
    """Draws from torch's own generator, not from the one it is given."""

    def step(
        self, state: CountdownState, action: Tensor, rng: torch.Generator | None
    ) -> tuple[CountdownState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return after, reward + torch.rand(reward.shape), terminated

    def reset(self, n: int, rng: torch.Generator | None) -> CountdownState:
        return super().reset(n, None)

    def render(self, state: CountdownState, index: int = 0) -> Tensor:
        torch.rand(1)
        return torch.zeros(8, 8, 3, dtype=torch.uint8)


def bits_of(env: str | type[TensorEnv], folder: Path, **changes: Any) -> dict[str, bytes]:
    """What a small run of PPO ends with."""
    return final_bits("ppo", env, folder, **{**PLAIN, **changes})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | type[TensorEnv]], dict[str, bytes]]:
    """The bits of a run that does nothing but train, by environment."""
    made: dict[Any, dict[str, bytes]] = {}

    def bits(env: str | type[TensorEnv]) -> dict[str, bytes]:
        if env not in made:
            made[env] = bits_of(env, tmp_path_factory.mktemp("plain"))
        return made[env]

    return bits


@pytest.mark.parametrize("env", ["rltrain/CartPole-v1", Careless], ids=["CartPole", "Careless"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_bits_with_and_without(
    tmp_path: Path,
    env: str | type[TensorEnv],
    setting: str,
    plain: Callable[[str | type[TensorEnv]], dict[str, bytes]],
) -> None:
    bits, expected = bits_of(env, tmp_path, **SETTINGS[setting]), plain(env)
    assert len(expected) > 30
    assert bits.keys() == expected.keys()
    assert [name for name in expected if bits[name] != expected[name]] == []


def test_another_seed_has_other_bits(
    tmp_path: Path, plain: Callable[[str | type[TensorEnv]], dict[str, bytes]]
) -> None:
    """So the comparison above can fail."""
    bits, expected = bits_of("rltrain/CartPole-v1", tmp_path, seed=1), plain("rltrain/CartPole-v1")
    assert bits.keys() == expected.keys()
    for part in ("policy.pi.0.weight", "training.env.rng", "training.agent.rng", "training.generators.torch"):
        assert bits[part] != expected[part]


def test_it_is_all_there(tmp_path: Path) -> None:
    """What was asked for beside training was done, as often as asked, and saved once per step."""
    result = rltrain.train("ppo", Careless, **{**PLAIN, **SETTINGS["everything"], "run_dir": tmp_path})
    videos = sorted(path.name for path in (result.run_dir / "videos").iterdir())
    assert videos == ["step_000000001024.mp4"]
    assert not list(result.run_dir.glob("checkpoints/superseded_*"))
    assert result.evaluation is not None
    assert len(result.evaluation.returns) == 3
    assert rltrain.load(result.run_dir, checkpoint="best", env=Careless).step <= result.steps


def test_what_cannot_be_filmed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be drawn"):
        rltrain.train("ppo", Countdown, progress=False, **{**PLAIN, "video_freq": 100, "run_dir": tmp_path / "runs"})
    assert not list(tmp_path.iterdir())


class Unseen(Careless):
    """Can be drawn once."""

    drawn = False

    def render(self, state: CountdownState, index: int = 0) -> Tensor:
        if self.drawn:
            raise OSError("the lens is broken")
        self.drawn = True
        return super().render(state, index)


def test_a_film_that_fails_does_not_stop_training(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"no film of step 768\. the lens is broken"):
        result = rltrain.train("ppo", Unseen, **{**PLAIN, "video_freq": 700, "run_dir": tmp_path})
    assert result.stopped_by == "total_timesteps"


class Lonely(gymnasium.Env[Any, Any]):
    """A simulator of which one can live at a time, and which breaks down when it is told to."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)
    living: ClassVar[list[Lonely]] = []
    broken: ClassVar[bool] = False

    def __init__(self) -> None:
        if Lonely.living:
            raise ConnectionError("the port is taken")
        Lonely.living.append(self)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if Lonely.broken:
            raise ConnectionError("the simulator is gone")
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 1.0, bool(self.np_random.random() < 0.2), False, {}

    def close(self) -> None:
        Lonely.living.clear()


LONELY = {**PLAIN, "num_envs": 1, "total_timesteps": 128, "n_eval_episodes": 3}


def test_where_only_one_environment_can_live_it_is_also_evaluated_in(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="in the environments of training, since other ones fail: .* port is taken"):
        result = rltrain.train("ppo", Lonely, progress=False, run_dir=tmp_path, **LONELY)
    assert result.evaluation is not None
    assert len(result.evaluation.returns) == 3
    assert RunFolder(result.run_dir).metadata()["status"] == "completed"


def test_an_evaluation_that_fails_does_not_lose_the_run(tmp_path: Path) -> None:
    class Breaks(rltrain.Callback):
        def on_checkpoint(self, trainer: Any, path: Path) -> None:
            Lonely.broken = True

    Lonely.broken = False
    try:
        with pytest.warns(UserWarning, match=r"There is no score\. .*the simulator is gone"):
            result = rltrain.train("ppo", Lonely, progress=False, run_dir=tmp_path, callbacks=[Breaks()], **LONELY)
    finally:
        Lonely.broken = False
    assert result.evaluation is None
    assert RunFolder(result.run_dir).metadata()["status"] == "completed"


def test_an_evaluation_amid_training_that_fails_is_left_out(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"There is no evaluation at step 64\. .*the port is taken"):
        result = rltrain.train("ppo", Lonely, progress=False, run_dir=tmp_path, **{**LONELY, "eval_freq": 64})
    assert result.steps == 128
