"""Trackers of a run: which are made, what they are told, and that none of them can harm it."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from test_no_interference import PLAIN, Careless, bits_of

import rltrain
from rltrain import Callback, RunInfo, Tracker, plugins, register_tracker
from rltrain.callbacks import Training
from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.trackers.csv import read_progress

METHODS = ("log", "image", "video", "artifact", "histogram", "text", "hparams", "layout", "finish", "close")
EVERYTHING: dict[str, Any] = {**PLAIN, "video_freq": 1_000, "save_freq": 500, "n_eval_episodes": 2, "progress": False}


class Recorder(Tracker):
    """Notes every call; fails where it is asked to, and draws random numbers all the time."""

    made: list[Recorder] = []  # noqa: RUF012
    broken: str = ""

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.made.append(self)
        self._note("__init__")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._note("log", metrics, step)

    def _note(self, method: str, *arguments: Any) -> None:
        torch.rand(3)
        np.random.rand(3)
        random.random()
        self.calls.append((method, arguments))
        if method == self.broken:
            raise ValueError(f"no {method} today")

    def told(self, method: str) -> list[tuple[Any, ...]]:
        return [arguments for name, arguments in self.calls if name == method]


for _name in METHODS[1:]:
    setattr(Recorder, _name, lambda self, *arguments, _name=_name: self._note(_name, *arguments))


class Greedy(Recorder):
    """Empties whatever it is given."""

    made: list[Recorder] = []  # noqa: RUF012

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        assert isinstance(metrics, dict)
        metrics.clear()
        assert isinstance(self.run.config, dict)
        self.run.config.clear()


class Shows(Callback):
    """Hands a tracker what only a callback has."""

    def on_checkpoint(self, trainer: Training, path: Path) -> None:
        step = trainer.global_step
        trainer.trackers.image("picture", np.zeros((2, 2, 3), np.uint8), step)
        trainer.trackers.histogram("numbers", np.ones(3), step)
        trainer.trackers.layout({"heading": {"chart": ["train/loss"]}})


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = dict(plugins.trackers)
    register_tracker("recorder", Recorder)
    register_tracker("greedy", Greedy)
    register_tracker("display", Recorder, display=True)
    for each in (Recorder, Greedy):
        monkeypatch.setattr(each, "made", [])
        monkeypatch.setattr(each, "broken", "")
    yield
    plugins.trackers.clear()
    plugins.trackers.update(before)


def test_a_tracker_is_told_everything_in_order(tmp_path: Path) -> None:
    run = rltrain.train("ppo", Careless, trackers=["recorder"], callbacks=[Shows()], run_dir=tmp_path, **EVERYTHING)
    (tracker,) = Recorder.made
    names = [name for name, _ in tracker.calls]
    assert names[:3] == ["__init__", "hparams", "text"]
    assert names[-2:] == ["finish", "close"]
    assert set(names) == {"__init__", *METHODS}
    info = tracker.run
    assert (info.run_dir, info.resume_step, info.total_timesteps) == (run.run_dir, None, PLAIN["total_timesteps"])
    assert info.name == f"{run.run_dir.parent.name}/ppo_1"
    assert info.title == "ppo on Careless, seed 0"
    assert info.config["agent"]["n_steps"] == 64
    assert tracker.told("hparams")[0][0]["agent.n_steps"] == 64
    tag, text, step = tracker.told("text")[0]
    assert (tag, step) == ("config", 0)
    assert "n_steps: 64" in text
    steps = [step for _, step in tracker.told("log")]
    assert steps == sorted(steps)
    assert steps[-1] == run.steps
    assert run.evaluation is not None
    assert tracker.told("finish")[0][0]["eval/mean_reward"] == pytest.approx(run.evaluation.mean_reward)
    (video,) = tracker.told("video")
    assert video == (run.run_dir / "videos" / "step_000000001024.mp4", 1024)
    artifacts = tracker.told("artifact")
    assert [kind for _, kind in artifacts] == ["checkpoint"] * (len(artifacts))
    assert artifacts[-1][0] == run.run_dir / "checkpoints" / f"step_{run.steps:012}"
    assert not (run.run_dir / "progress.csv").exists()
    assert not list(run.run_dir.glob("events.*"))
    assert run.picture is None


def test_the_learning_curve_is_an_artifact_where_there_is_one(tmp_path: Path) -> None:
    run = rltrain.train("ppo", Careless, trackers=["csv", "recorder"], run_dir=tmp_path, **EVERYTHING)
    assert Recorder.made[0].told("artifact")[-1] == (run.picture, "learning_curve")


@pytest.mark.parametrize("method", ["__init__", *METHODS])
def test_a_tracker_that_fails_is_named_once_and_left_out(tmp_path: Path, method: str) -> None:
    Recorder.broken = method
    options = {**EVERYTHING, "trackers": ["recorder", "csv"], "run_dir": tmp_path, "callbacks": [Shows()]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = rltrain.train("ppo", Careless, **options)
    told = [str(each.message) for each in caught if "tracker" in str(each.message)]
    assert told == [f"The tracker 'recorder' failed and is left out from here on. ValueError: no {method} today"]
    assert run.stopped_by == "total_timesteps"
    assert json.loads((run.run_dir / "metadata.json").read_text())["status"] == "completed"
    (tracker,) = Recorder.made
    failed = [name for name, _ in tracker.calls].index(method)
    after = [name for name, _ in tracker.calls[failed + 1 :]]
    assert after == ([] if method in ("__init__", "close") else ["close"])
    assert read_progress(run.run_dir / "progress.csv")["time/total_timesteps"][-1] == run.steps


def test_one_that_cannot_be_imported_or_leaves_the_process_is_left_out_too(tmp_path: Path) -> None:
    register_tracker("gone", "no_such_module:Tracker")
    register_tracker("leaves", "sys:exit")
    with pytest.warns(UserWarning, match="The tracker '(gone|leaves)' failed") as caught:
        rltrain.train("ppo", Careless, **{**EVERYTHING, "trackers": ["gone", "leaves"], "run_dir": tmp_path})
    assert sum("failed and is left out" in str(warning.message) for warning in caught) == 2


@pytest.mark.parametrize("names", [[], ["recorder"], ["greedy"], ["console", "csv", "tensorboard", "recorder"]])
def test_trackers_do_not_change_training(tmp_path: Path, names: list[str]) -> None:
    plain = bits_of(Careless, tmp_path / "plain")
    assert bits_of(Careless, tmp_path / "tracked", trackers=names) == plain


def test_what_one_does_to_its_metrics_and_settings_reaches_no_other(tmp_path: Path) -> None:
    rltrain.train("ppo", Careless, trackers=["greedy", "recorder"], run_dir=tmp_path, **EVERYTHING)
    assert all("time/fps" in metrics for metrics, step in Recorder.made[0].told("log")[:-1])
    assert Recorder.made[0].run.config["algo"] == "ppo"


def test_a_run_goes_on_with_other_trackers(tmp_path: Path) -> None:
    options = {**EVERYTHING, "trackers": ["csv"], "run_dir": tmp_path}
    first = rltrain.train("ppo", Careless, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The tracker")
        for total, names in ((2_000, ["recorder", "tensorboard"]), (2_500, None), (3_000, "csv, recorder")):
            more: Any = {"total_timesteps": total, "trackers": names, "env": Careless, "progress": False}
            last = rltrain.resume(first.run_dir, **more)
    assert [tracker.run.resume_step for tracker in Recorder.made] == [1_536, 2_560]
    assert [tracker.run.total_timesteps for tracker in Recorder.made] == [2_000, 3_000]
    assert len(list(first.run_dir.glob("events.*"))) == 1
    steps = read_progress(first.run_dir / "progress.csv")["time/total_timesteps"]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (256, last.steps)
    assert not {1_792, 2_048} & set(steps)  # while the table was left out
    with pytest.raises(ConfigError, match=r"There is no tracker 'cvs'\. Did you mean 'csv'"):
        rltrain.resume(first.run_dir, total_timesteps=9_000, trackers=["cvs"], env=Careless)


def test_a_run_goes_on_where_its_tracker_is_no_longer_installed(tmp_path: Path) -> None:
    first = rltrain.train("ppo", Careless, **{**EVERYTHING, "trackers": ["recorder", "csv"], "run_dir": tmp_path})
    del plugins.trackers["recorder"]
    with pytest.warns(UserWarning, match="The tracker 'recorder' failed.*There is no tracker 'recorder'"):
        last = rltrain.resume(first.run_dir, total_timesteps=2_000, env=Careless, progress=False)
    assert read_progress(first.run_dir / "progress.csv")["time/total_timesteps"][-1] == last.steps


def test_displays_show_progress_and_nothing_else_does(tmp_path: Path) -> None:
    options = {**EVERYTHING, "trackers": ["display", "csv"]}
    rltrain.train("ppo", Careless, **{**options, "run_dir": tmp_path / "a"})
    assert not Recorder.made
    rltrain.train("ppo", Careless, **{**options, "run_dir": tmp_path / "b", "progress": True})
    assert len(Recorder.made) == 1


def test_many_seeds_share_a_display_and_have_the_rest_each(tmp_path: Path) -> None:
    more = {**PLAIN, "run_dir": tmp_path, "progress": True, "trackers": ["display", "greedy"]}
    results = rltrain.train_seeds("ppo", "rltrain/CartPole-v1", 2, **more)
    (display,) = Recorder.made
    assert [tracker.run.run_dir.name for tracker in Greedy.made] == ["ppo_1", "ppo_2"]
    assert display.run.total_timesteps == 2 * PLAIN["total_timesteps"]
    assert display.run.title == "ppo on rltrain/CartPole-v1, seeds 0 to 1"
    metrics, step = display.told("log")[-1]
    assert step == sum(result.steps for result in results.values() if isinstance(result, rltrain.RunResult))
    assert {"rollout/ep_rew_mean", "train/loss"} <= metrics.keys()
    assert display.calls[-1][0] == "close"
    assert all(tracker.calls[-1][0] == "close" for tracker in Greedy.made)


SHORT = "train ppo rltrain/CartPole-v1 --total-timesteps 64 --num-envs 2 --n-eval-episodes 0 --agent.n-steps 16"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--trackers", "csv", "recorder"], ["csv", "recorder"]),
        (["--trackers", "csv,", "recorder"], ["csv", "recorder"]),
        (["--trackers", "csv,recorder"], ["csv", "recorder"]),
        (["--trackers=csv,recorder"], ["csv", "recorder"]),
        (["--trackers", "[csv, recorder]"], ["csv", "recorder"]),
        (["--trackers", "csv"], ["csv"]),
        (["--trackers"], []),
        (["--trackers", "[]"], []),
        (["--trackers", "none"], []),
        ([], ["console", "csv", "tensorboard"]),
    ],
)
def test_how_trackers_are_chosen_on_the_command_line(tmp_path: Path, words: list[str], names: list[str]) -> None:
    options = ["--agent.batch-size", "32", "--run-dir", str(tmp_path), *words, "--seed", "1"]
    assert main([*SHORT.split(), *options]) == 0
    run = tmp_path / "rltrain-CartPole-v1" / "ppo_1"
    config = (run / "config.yaml").read_text()
    assert yaml.safe_load(config)["trackers"] == names
    assert (run / "progress.csv").exists() == ("csv" in names)
    assert len(Recorder.made) == names.count("recorder")


@pytest.mark.parametrize("text", ["[csv, recorder]", "csv recorder", "csv, recorder", "\n- csv\n- recorder"])
def test_how_trackers_are_chosen_in_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(f"algo: ppo\nenv: rltrain/CartPole-v1\ntrackers: {text}\n")
    words = ["train", "--config", str(tmp_path / "run.yaml"), *SHORT.split()[3:], "--agent.batch-size", "32"]
    assert main([*words, "--run-dir", str(tmp_path)]) == 0
    assert len(Recorder.made) == 1
