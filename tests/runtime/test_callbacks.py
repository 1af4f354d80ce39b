"""Callbacks are called when things happen, and do not affect training."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from torch import Tensor

import rltrain
from rltrain.callbacks import Episodes
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from rltrain.training.callback_list import CallbackList
from rltrain.training.trainer import Trainer

OPTIONS: dict[str, Any] = {
    "total_timesteps": 1_024,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 512,
    "log_interval": 2,
    "n_eval_episodes": 0,
    "progress": False,
    "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
}


class Diary(rltrain.Callback):
    """Writes everything down, and draws from every generator there is."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, int]] = []
        self.metrics: list[dict[str, Tensor | float]] = []
        self.episodes: list[Episodes] = []
        self.paths: list[Path] = []

    def note(self, what: str, trainer: Trainer) -> None:
        self.entries.append((what, trainer.global_step))
        torch.rand(3), np.random.rand(3), random.random()

    def on_rollout(self, trainer: Trainer) -> None:
        self.note("rollout", trainer)

    def on_update(self, trainer: Trainer, metrics: dict[str, Tensor | float]) -> None:
        self.note("update", trainer)
        self.metrics.append(metrics)

    def on_episodes(self, trainer: Trainer, episodes: Episodes) -> None:
        self.note("episodes", trainer)
        self.episodes.append(episodes)

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        self.note("checkpoint", trainer)
        assert find_fault(path) is None
        self.paths.append(path)


def test_they_are_told_in_order(tmp_path: Path) -> None:
    diary = Diary()
    result = rltrain.train("ppo", Countdown, callbacks=[diary], run_dir=tmp_path, **OPTIONS)
    expected: list[tuple[str, int]] = []
    for step in range(128, 1_025, 128):
        expected += [("rollout", step), ("update", step)]
        expected += [("episodes", step)] * (step % 256 == 0) + [("checkpoint", step)] * (step % 512 == 0)
    assert diary.entries == expected
    assert diary.paths == list_checkpoints(result.run_dir / "checkpoints")
    assert all(torch.as_tensor(metrics["train/loss"]).shape == () for metrics in diary.metrics)


def test_episodes_are_all_that_ended_and_what_the_statistics_are_made_of(tmp_path: Path) -> None:
    diary = Diary()

    class Check(rltrain.Callback):
        def on_episodes(self, trainer: Trainer, episodes: Episodes) -> None:
            seen = torch.cat([each.returns for each in diary.episodes])
            assert trainer.latest["rollout/episodes"] == len(seen)
            assert trainer.latest["rollout/ep_rew_mean"] == pytest.approx(float(seen[-100:].mean()))

    rltrain.train("ppo", Countdown, callbacks=[diary, Check()], run_dir=tmp_path, **OPTIONS)
    for part in ("returns", "lengths", "successes", "rows"):
        assert all(len(getattr(each, part)) == len(each.returns) > 0 for each in diary.episodes)
    lengths, rows = (torch.cat([getattr(each, part) for each in diary.episodes]) for part in ("lengths", "rows"))
    assert lengths.dtype == rows.dtype == torch.int64
    for row in range(4):
        assert 250 < int(lengths[rows == row].sum()) <= 256  # all but what has not ended yet
    assert set(torch.cat([each.successes for each in diary.episodes]).tolist()) == {1.0}  # the mask sees to it


@pytest.mark.parametrize("env", ["rltrain/CartPole-v1", Countdown], ids=str)
def test_the_same_bits_with_and_without(tmp_path: Path, env: Any) -> None:
    runs = [
        rltrain.train("ppo", env, run_dir=tmp_path / name, callbacks=callbacks, **OPTIONS).run_dir
        for name, callbacks in (("with", [Diary()]), ("without", []))
    ]
    files = [list_checkpoints(run / "checkpoints")[-1] for run in runs]
    for name in ("policy.safetensors", "training.safetensors"):
        assert files[0].joinpath(name).read_bytes() == files[1].joinpath(name).read_bytes()


def test_a_callback_can_stop_a_run_which_can_be_resumed(tmp_path: Path) -> None:
    class Enough(rltrain.Callback):
        def on_update(self, trainer: Trainer, metrics: dict[str, Tensor | float]) -> None:
            if trainer.global_step >= 300:
                trainer.stop()

    diary = Diary()
    stopped = rltrain.train("ppo", "rltrain/CartPole-v1", callbacks=[Enough()], run_dir=tmp_path, **OPTIONS)
    assert (stopped.steps, stopped.stopped_by) == (384, "callback")
    resumed = rltrain.resume(stopped.run_dir, total_timesteps=600, callbacks=[diary], progress=False)
    assert (resumed.steps, resumed.stopped_by) == (640, "total_timesteps")
    assert diary.entries[0] == ("rollout", 512)


def test_an_error_in_one_ends_the_run(tmp_path: Path) -> None:
    class Broken(rltrain.Callback):
        def on_rollout(self, trainer: Trainer) -> None:
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        rltrain.train("ppo", Countdown, callbacks=[Broken()], run_dir=tmp_path, **OPTIONS)


@pytest.mark.parametrize("wrong", [Diary, print, None])
def test_what_is_no_callback_is_refused_before_anything_is_made(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"is no callback\. Subclass rltrain.Callback"):
        rltrain.train("ppo", Countdown, callbacks=[wrong], run_dir=tmp_path / "runs", **OPTIONS)
    assert not (tmp_path / "runs").exists()


def test_none_cost_nothing() -> None:
    """Without callbacks, and without one that wants episodes, nothing is copied and nobody is called."""

    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    for callbacks in (CallbackList(), CallbackList([rltrain.Callback()])):
        trainer: Any = Untouchable()
        assert [callbacks.rollout(trainer), callbacks.update(trainer, {}), callbacks.log(trainer, {})] == [None] * 3
