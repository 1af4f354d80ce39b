"""Ready-made callbacks do what they say, remember it over a resume, and leave training as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from countdown import Countdown
from test_no_interference import PLAIN, bits_of

import rltrain
from rltrain.errors import ConfigError
from rltrain.runs.checkpoint import load_training
from rltrain.runs.layout import list_checkpoints
from rltrain.trackers.csv import read_progress
from rltrain.training.callbacks import OnMetric

CARTPOLE = "rltrain/CartPole-v1"
OPTIONS: dict[str, Any] = {
    "total_timesteps": 2_048,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 0,
    "log_interval": 1,
    "stats_window_size": 4,
    "n_eval_episodes": 4,
    "trackers": ["csv"],
    "progress": False,
    "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
}


class Told(OnMetric):
    """Notes every value, and stops once there were so many."""

    def __init__(self, tag: str, stop_after: int = 10**9) -> None:
        super().__init__(tag)
        self.values: list[float] = []
        self.stop_after = stop_after

    def see(self, trainer: rltrain.Training, value: float) -> None:
        self.values.append(value)
        if len(self.values) == self.stop_after:
            trainer.stop()


def train(folder: Path, *callbacks: rltrain.Callback, env: Any = CARTPOLE, **more: Any) -> rltrain.RunResult:
    return rltrain.train("ppo", env, callbacks=list(callbacks), run_dir=folder, **{**OPTIONS, **more})


def test_it_stops_at_a_threshold_reached_so_often(tmp_path: Path) -> None:
    told = Told("rollout/ep_rew_mean")
    result = train(tmp_path, told, rltrain.StopAtThreshold(5.0, "rollout/ep_rew_mean", times=3))
    assert (result.stopped_by, len(told.values)) == ("callback", 3)
    falling = rltrain.StopAtThreshold(1e9, "train/value_loss", falling=True)
    assert train(tmp_path, falling).steps == 128


def test_it_stops_on_a_plateau(tmp_path: Path) -> None:
    """An evaluation in Countdown always returns the same."""
    plateau = rltrain.StopOnPlateau(patience=512)
    result = train(tmp_path, plateau, env=Countdown, eval_freq=128)
    assert (result.stopped_by, result.steps) == ("callback", 128 + 512)


def test_what_was_remembered_goes_on_in_a_resumed_run(tmp_path: Path) -> None:
    def plateau() -> rltrain.Callback:
        return rltrain.StopOnPlateau(patience=512)

    first = train(tmp_path, plateau(), Told("eval/mean_reward", 3), env=Countdown, eval_freq=128)
    assert first.steps == 3 * 128
    saved = load_training(list_checkpoints(first.run_dir / "checkpoints")[-1])["callbacks"]
    assert saved["0"]["class"] == "StopOnPlateau"
    more: dict[str, Any] = {"env": Countdown, "progress": False}
    again = rltrain.resume(first.run_dir, total_timesteps=2_048, callbacks=[plateau()], **more)
    assert again.steps == 128 + 512
    other = rltrain.resume(first.run_dir, total_timesteps=1_024, **more)  # without any
    assert other.steps == 1_024


def test_it_stops_after_a_time(tmp_path: Path) -> None:
    result = train(tmp_path, rltrain.StopAfter(seconds=0.05), total_timesteps=10**8)
    assert result.stopped_by == "callback"
    assert result.steps < 10**7


def test_the_best_by_any_metric_is_kept(tmp_path: Path) -> None:
    told = Told("rollout/ep_len_mean")
    result = train(tmp_path, told, rltrain.KeepBest("rollout/ep_len_mean"), keep_checkpoints=1)
    best = rltrain.load(result.run_dir, checkpoint="best").step
    lengths = read_progress(result.run_dir / "progress.csv")
    index = lengths["rollout/ep_len_mean"].index(max(told.values))
    assert best == lengths["time/total_timesteps"][index]
    with pytest.raises(ConfigError, match="evaluations choose the best policy already"):
        train(tmp_path / "none", rltrain.KeepBest(), eval_freq=256)
    assert not (tmp_path / "none").exists()


def test_it_evaluates_with_other_settings(tmp_path: Path) -> None:
    """A heavy pole that is pushed hard falls at once, and a limit ends every episode."""
    short = rltrain.EvaluateOn("short", every=512, episodes=3, max_episode_steps=3)
    train(tmp_path, short)
    table = read_progress(next(tmp_path.rglob("progress.csv")))
    known = [value for value in table["eval_short/mean_ep_length"] if value == value]
    assert known == [3.0] * 4
    with pytest.warns(UserWarning, match="There is no evaluation .odd. at step 1,024.*argument .odd."):
        train(tmp_path / "b", rltrain.EvaluateOn("odd", every=1_024, odd=1), total_timesteps=1_024)


def test_evaluating_with_other_settings_leaves_no_trace_in_training(tmp_path: Path) -> None:
    plain = bits_of(CARTPOLE, tmp_path / "plain")
    callbacks = [
        rltrain.EvaluateOn("short", every=200, max_episode_steps=5),
        rltrain.KeepBest(),
        rltrain.SaveEvery(minutes=1e-9),
        rltrain.StopOnPlateau(10**9, "rollout/ep_rew_mean"),
    ]
    assert bits_of(CARTPOLE, tmp_path / "watched", callbacks=callbacks) == plain
    assert PLAIN["save_freq"] == 0


def test_checkpoints_come_by_time(tmp_path: Path) -> None:
    result = train(tmp_path, rltrain.SaveEvery(minutes=1e-9), keep_checkpoints=100)
    assert len(list_checkpoints(result.run_dir / "checkpoints")) == 2_048 // 128
    result = train(tmp_path, rltrain.SaveEvery(minutes=60), keep_checkpoints=100)
    assert len(list_checkpoints(result.run_dir / "checkpoints")) == 1


def test_each_seed_of_a_batch_is_remembered_apart(tmp_path: Path) -> None:
    stop = rltrain.StopAtThreshold(0.0, "rollout/ep_rew_mean", times=4)
    results = rltrain.train_seeds("ppo", CARTPOLE, 2, callbacks=[stop], run_dir=tmp_path, **OPTIONS)
    assert [result.steps for result in results.values() if isinstance(result, rltrain.RunResult)] == [512, 512]


@pytest.mark.parametrize(
    "make",
    [
        lambda: rltrain.StopAtThreshold(1.0, "reward"),
        lambda: rltrain.StopAfter(),
        lambda: rltrain.SaveEvery(0),
        lambda: rltrain.EvaluateOn("test", every=0),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_one_that_waits_for_evaluations_needs_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there are no evaluations\. Give an --eval-freq"):
        train(tmp_path / "runs", rltrain.StopAtThreshold(1.0))
    assert not (tmp_path / "runs").exists()
