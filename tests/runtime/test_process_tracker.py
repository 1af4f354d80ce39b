"""Trackers in processes of their own: told everything, and unable to stop, slow down or outlive a run."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tracker_doubles import told

import rltrain
from rltrain import RunInfo, register_tracker
from rltrain.cli import main
from rltrain.errors import ConfigError, RunError
from rltrain.process.telemetry import NO_TELEMETRY
from rltrain.trackers import process
from rltrain.trackers.process import ProcessTracker

SHORT: dict[str, Any] = {
    "total_timesteps": 128,
    "num_envs": 2,
    "n_eval_episodes": 1,
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 32},
}


def start(run_dir: Path, name: str = "Note") -> ProcessTracker:
    run = RunInfo(run_dir, 100, 7, "a title", {"algo": "ppo", "odd": math.inf})
    return ProcessTracker(run, name.lower(), f"tracker_doubles:{name}")


def wait_for_failure(tracker: ProcessTracker) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            tracker.log({}, 0)
        except RunError as error:
            return str(error)
        time.sleep(0.05)
    raise AssertionError("it has not failed")


def test_the_other_process_is_told_everything_in_order(tmp_path: Path) -> None:
    tracker = start(tmp_path)
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    tracker.hparams({"agent.gamma": 0.9, "name": "x"})
    tracker.log({"a": np.float32(0.5), "b": math.nan}, 16)  # type: ignore[dict-item]
    tracker.image("picture", np.full((2, 4, 3), 7, np.uint8), 16)
    tracker.histogram("numbers", numbers[:, ::2], 16)
    tracker.video(tmp_path / "film.mp4", 16)
    tracker.artifact(tmp_path / "checkpoints" / "step_1", "checkpoint")
    tracker.text("config", "a\nb", 0)
    tracker.layout({"heading": {"chart": ["a", "b"]}})
    tracker.finish({"a": 1.0})
    tracker.close()
    tracker.close()
    (first, *rest) = told(tmp_path)
    assert first[:4] == ["start", 7, "a title", {"algo": "ppo", "odd": math.inf}]
    assert first[4] != os.getpid()
    assert [line[0] for line in rest] == [
        *("hparams", "log", "image", "histogram", "video", "artifact", "text", "layout", "finish", "close")
    ]
    assert rest[1][1]["a"] == 0.5
    assert math.isnan(rest[1][1]["b"])
    assert rest[2][2] == {"sum": 7 * 24, "shape": [2, 4, 3], "type": "uint8"}
    assert rest[3][2] == {"sum": 0 + 2 + 3 + 5, "shape": [2, 2], "type": "float32"}
    assert rest[4][1:] == [str(tmp_path / "film.mp4"), 16]
    assert rest[6][1:] == ["config", "a\nb", 0]


def test_what_fails_there_is_raised_here_by_the_next_call(tmp_path: Path) -> None:
    tracker = start(tmp_path, "Broken")
    for step in range(1, 4):
        tracker.log({"a": 1.0}, step)
    assert wait_for_failure(tracker) == "ConnectionError: nobody answers"
    with pytest.raises(RunError, match="nobody answers"):
        tracker.close()
    assert told(tmp_path)[-1][0] == "close"


def test_a_process_that_dies_is_noticed(tmp_path: Path) -> None:
    tracker = start(tmp_path, "Dies")
    tracker.log({}, 1)
    assert wait_for_failure(tracker) == "Its process ended with exit code 7."


def test_what_the_library_prints_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    tracker = start(tmp_path, "Chatty")
    tracker.log({}, 1)
    tracker.close()
    assert told(tmp_path, "log")


def test_a_slow_service_costs_the_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "CLOSE_SECONDS", 0.5)
    tracker = start(tmp_path, "Slow")
    begin = time.monotonic()
    for step in range(1_000):
        tracker.log({"a": 1.0}, step)
    with pytest.warns(UserWarning, match="'slow' is still sending after .* goes on with that in the background"):
        tracker.close()
    assert time.monotonic() - begin < 4
    tracker._process.kill()


def test_one_that_does_not_keep_up_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "WAITING_LIMIT", 2**20)
    tracker = start(tmp_path, "Slow")
    picture = np.zeros((1_000, 100, 3), np.uint8)
    for step in range(3):
        tracker.log({}, step)
        tracker.image("picture", picture, step)
    with pytest.raises(RunError, match="It does not keep up"):
        tracker.image("picture", picture, 3)
    with pytest.raises(RunError, match="It does not keep up"):
        tracker.close()
    assert tracker._process.poll() is not None


def test_it_closes_and_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from test_process_tracker import start
tracker = start(Path({str(tmp_path)!r}))
tracker.log({{"a": 1.0}}, 1)
print(tracker._process.pid, flush=True)
time.sleep(60)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env)
    assert run.stdout is not None
    other = psutil.Process(int(run.stdout.readline()))
    deadline = time.monotonic() + 30
    while not ((tmp_path / "told.jsonl").exists() and told(tmp_path, "log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    other.wait(30)
    assert [line[0] for line in told(tmp_path)] == ["start", "log", "close"]


@pytest.mark.usefixtures("clean_registries")
@pytest.mark.parametrize("name", ["Broken", "Dies"])
def test_a_run_goes_on_without_it(tmp_path: Path, name: str) -> None:
    register_tracker("there", f"tracker_doubles:{name}", own_process=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = rltrain.train("ppo", "rltrain/CartPole-v1", trackers=["there", "csv"], run_dir=str(tmp_path), **SHORT)
    about = [str(each.message) for each in caught if "tracker" in str(each.message)]
    assert len(about) == 1
    assert about[0].startswith("The tracker 'there' failed and is left out from here on. RunError: ")
    assert run.stopped_by == "total_timesteps"


@pytest.mark.usefixtures("clean_registries")
def test_a_missing_library_is_told_before_anything_is_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register_tracker("far", "no_such_library.x:Y", needs="no_such_library", install="rltrain[far]")
    with pytest.raises(
        ConfigError, match=r"'far' needs the package no_such_library, .* Run: pip install 'rltrain\[far\]'"
    ):
        rltrain.train("ppo", "rltrain/CartPole-v1", trackers=["far"], run_dir=str(tmp_path), **SHORT)
    assert not list(tmp_path.iterdir())
    assert main(["trackers", "far"]) == 0
    assert "Needs: pip install 'rltrain[far]'" in capsys.readouterr().out


def test_the_libraries_are_told_not_to_report_on_their_users(tmp_path: Path) -> None:
    tracker = start(tmp_path)
    there = psutil.Process(tracker._process.pid).environ()
    assert {name: there[name] for name in NO_TELEMETRY} == NO_TELEMETRY
    tracker.close()
