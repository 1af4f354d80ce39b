"""When a run stops, on which episodes it is judged, and what a resume takes up: all of it known beforehand."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from bits import last_state
from gymnasium import spaces
from scripted import ANY_NUMBER

import rltrain
from rltrain.callbacks import Episodes
from rltrain.runs.layout import list_checkpoints

pytestmark = pytest.mark.usefixtures("scripted_known")

PAY = "test/Pay-v0"
PER_UPDATE = 8  # environment steps: 4 environments, 2 steps each, so 4 episodes
OPTIONS: dict[str, Any] = {
    "num_envs": 4,
    "num_threads": 1,
    "device": "cpu",
    "save_freq": 0,
    "n_eval_episodes": 0,
    "trackers": [],
    "progress": False,
}


@pytest.mark.parametrize(("target", "updates"), [(15.0, 5), (16.0, 5), (16.1, 6), (20.0, 6), (0.0, 5)])
def test_it_stops_at_a_reward_once_the_window_is_full(target: float, updates: int, tmp_path: Path) -> None:
    """The first 4 episodes pay 0, all others 20. After 16 of them the mean is 15, but 20 are to be counted."""
    result = rltrain.train(
        "scripted",
        PAY,
        total_timesteps=20 * PER_UPDATE,
        agent={"plan": [10.0]},
        stop_at_reward=target,
        stats_window_size=20,
        run_dir=tmp_path,
        **OPTIONS,
    )
    assert (result.stopped_by, result.steps) == ("stop_at_reward", updates * PER_UPDATE)


class Judged(rltrain.Callback):
    """Notes the mean of every evaluation, and the returns of training."""

    def __init__(self) -> None:
        self.evaluations: dict[int, float] = {}
        self.returns: list[float] = []

    def on_update(self, trainer: Any, metrics: Any) -> None:
        if "eval/mean_reward" in trainer.latest:
            self.evaluations[trainer.global_step] = trainer.latest["eval/mean_reward"]

    def on_episodes(self, trainer: Any, episodes: Episodes) -> None:
        self.returns += episodes.returns.tolist()


def judged(folder: Path, seed: int) -> tuple[Judged, list[float]]:
    """Evaluations of a policy that does not change, and the returns of the last one, by the luck of the start."""
    notes = Judged()
    options = {**OPTIONS, "n_eval_episodes": 3, "eval_freq": PER_UPDATE, "seed": seed, "env_kwargs": {"luck": 100.0}}
    result = rltrain.train(
        "scripted", PAY, total_timesteps=6 * PER_UPDATE, callbacks=[notes], run_dir=folder, **options
    )
    assert result.evaluation is not None
    return notes, result.evaluation.returns.tolist()


def test_every_evaluation_plays_the_same_episodes_and_the_last_one_fresh_ones(tmp_path: Path) -> None:
    (notes, fresh), (others, other_fresh) = judged(tmp_path, 0), judged(tmp_path, 1)
    assert len(notes.evaluations) > 3
    assert len(set(notes.evaluations.values())) == 1
    assert np.mean(fresh) not in notes.evaluations.values()
    assert len({*fresh, *other_fresh}) == 6
    assert set(notes.evaluations.values()).isdisjoint(others.evaluations.values())
    assert set(fresh).isdisjoint(notes.returns)  # nor were they trained on
    again, fresh_again = judged(tmp_path, 0)
    assert (again.evaluations, fresh_again) == (notes.evaluations, fresh)


def test_evaluations_take_the_likeliest_action(tmp_path: Path) -> None:
    options = {**OPTIONS, "n_eval_episodes": 3, "eval_freq": PER_UPDATE, "agent": {"plan": [4.0], "spread": 5.0}}
    notes = Judged()
    result = rltrain.train(
        "scripted", PAY, total_timesteps=4 * PER_UPDATE, callbacks=[notes], run_dir=tmp_path, **options
    )
    assert set(notes.evaluations.values()) == {8.0}
    assert result.evaluation is not None
    assert result.evaluation.returns.tolist() == [8.0] * 3


class Pace(rltrain.Callback):
    """Makes every update take this long, and notes the speed."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.fps: list[float] = []

    def on_update(self, trainer: Any, metrics: Any) -> None:
        time.sleep(self.seconds)
        self.fps += [trainer.latest["time/fps"]] if "time/fps" in trainer.latest else []


@pytest.mark.parametrize("slow_first", [True, False])
def test_a_resumed_run_counts_its_speed_anew(slow_first: bool, tmp_path: Path) -> None:
    """An update of the slow session takes 30 ms, which is 267 steps/s at most; the other is many times as fast."""
    paces = [Pace(0.03 if slow else 0.0) for slow in (slow_first, not slow_first)]
    updates = [10 if slow_first else 300, 10 if not slow_first else 300]
    first = rltrain.train(
        "scripted",
        PAY,
        total_timesteps=updates[0] * PER_UPDATE,
        callbacks=[paces[0]],
        run_dir=tmp_path,
        **OPTIONS,
    )
    rltrain.resume(
        first.run_dir, total_timesteps=sum(updates) * PER_UPDATE, callbacks=[paces[1]], progress=False, device="cpu"
    )
    slow, fast = paces if slow_first else paces[::-1]
    assert 0 < slow.fps[-1] < PER_UPDATE / 0.03
    assert fast.fps[-1] > 2 * PER_UPDATE / 0.03


class Progress(rltrain.Callback):
    """Notes how much of training is said to be ahead in each update."""

    def __init__(self) -> None:
        self.ahead: list[float] = []

    def on_update(self, trainer: Any, metrics: Any) -> None:
        self.ahead.append(trainer.agent.progress_remaining)


def test_schedules_keep_their_horizon_where_a_run_is_prolonged(tmp_path: Path) -> None:
    first, more = Progress(), Progress()
    options = {**OPTIONS, "total_timesteps": 4 * PER_UPDATE, "run_dir": tmp_path}
    run = rltrain.train("scripted", PAY, callbacks=[first], **options).run_dir
    assert first.ahead == [1.0, 0.75, 0.5, 0.25]
    rltrain.resume(run, total_timesteps=7 * PER_UPDATE, callbacks=[more], progress=False)
    assert more.ahead == [0.0, 0.0, 0.0]


class Diarist(gymnasium.Env[Any, Any]):
    """Writes down every seed that it is given."""

    observation_space = spaces.Box(0.0, 1.0, (1,))
    action_space = ANY_NUMBER
    seeds: ClassVar[list[int]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.seeds.append(seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.filterwarnings("ignore:The episodes of")
def test_environments_that_cannot_be_saved_go_on_with_other_seeds(tmp_path: Path) -> None:
    """Those of the start would play the first episodes twice, and one seed for all resumes the same ones each time."""

    def seeds_of(action: Any) -> list[int]:
        """The seeds that the episodes of training began with; environments may have been reset before."""
        Diarist.seeds.clear()
        action()
        return Diarist.seeds[-4:]

    def resumed(run: Path, updates: int) -> list[int]:
        return seeds_of(lambda: rltrain.resume(run, total_timesteps=updates * PER_UPDATE, env=Diarist, progress=False))

    options = {**OPTIONS, "total_timesteps": 2 * PER_UPDATE, "run_dir": tmp_path}
    options |= {"env_options": {"vectorization": "sync"}}
    runs: list[Path] = []
    first = seeds_of(lambda: runs.append(rltrain.train("scripted", Diarist, **options).run_dir))
    copy = Path(shutil.copytree(runs[0], tmp_path / "copy"))
    parts = [first, resumed(runs[0], 3), resumed(runs[0], 4)]
    assert [len(part) for part in parts] == [4, 4, 4]
    assert len({seed for part in parts for seed in part}) == 12
    assert resumed(copy, 3) == parts[1]
    assert len(list_checkpoints(copy / "checkpoints")) == 2


class InterruptsAt(rltrain.Callback):
    """Sends the signal of Ctrl-C after an update, before its evaluation."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_update(self, trainer: Any, metrics: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_evaluation_that_a_signal_ended_at_the_last_step_is_in_the_last_checkpoint(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **{"total_timesteps": 128, "num_envs": 4, "num_threads": 1, "eval_freq": 64, "n_eval_episodes": 2},
        **{"agent": {"n_steps": 16, "batch_size": 64}, "trackers": [], "device": "cpu", "progress": False},
    }
    straight = rltrain.train("ppo", "rltrain/CartPole-v1", run_dir=tmp_path / "straight", **options)
    stopped = rltrain.train(
        "ppo", "rltrain/CartPole-v1", run_dir=tmp_path / "stopped", callbacks=[InterruptsAt(128)], **options
    )
    assert (stopped.stopped_by, stopped.steps) == ("interrupted", 128)
    assert last_state(stopped.run_dir)["training.trainer.evaluation_missed"]
    rltrain.resume(stopped.run_dir, progress=False)
    assert last_state(stopped.run_dir) == last_state(straight.run_dir)
