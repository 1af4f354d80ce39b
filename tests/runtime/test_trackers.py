"""Trackers: what they write, what a kill and a resume leave, what they cost."""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ServerAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams import metadata

import rltrain
from rltrain.errors import CheckpointError
from rltrain.evaluation.video_files import write_mp4
from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers import tensorboard as tensorboard_module
from rltrain.trackers.console import ConsoleTracker
from rltrain.trackers.csv import CsvTracker, read_progress
from rltrain.trackers.films import LIMIT, PICTURES, SIDE
from rltrain.trackers.sparkline import sparkline
from rltrain.trackers.tags import charts_of, description_of
from rltrain.trackers.tensorboard import TensorBoardTracker
from rltrain.training.tracker_list import flatten

CONFIG: dict[str, Any] = {
    "algo": "ppo",
    "env": {"id": "rltrain/CartPole-v1", "kwargs": {}},
    "agent": {"learning_rate": "lin_0.001", "gamma": 0.99, "target_kl": None, "net_arch": [64, 64], "clip": math.inf},
    "seed": 3,
}
TAG = "rollout/ep_rew_mean"
CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"


def info(run_dir: Path, resume_step: int | None = None, config: dict[str, Any] = CONFIG) -> RunInfo:
    return RunInfo(run_dir, 1000, resume_step, config=config)


def tensorboard(run_dir: Path, resume_step: int | None = None, config: dict[str, Any] = CONFIG) -> TensorBoardTracker:
    """A tracker that was told what every run tells its trackers first."""
    tracker = TensorBoardTracker(info(run_dir, resume_step, config))
    tracker.hparams(flatten(config))
    tracker.text("config", f"```yaml\n{yaml.safe_dump(config, sort_keys=False)}```", 0)
    return tracker


def console(total: int, stream: io.StringIO, title: str = "", resume_step: int | None = None) -> ConsoleTracker:
    return ConsoleTracker(RunInfo(Path(), total, resume_step, title), stream=stream)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# ---------------------------------------------------------------------------------------------- TensorBoard


def scalars(run_dir: Path, tag: str = TAG) -> dict[int, float]:
    """Points by step, as TensorBoard reads them; fails where a step comes twice or goes back."""
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload().Scalars(tag)
    steps = [event.step for event in events]
    assert steps == sorted(set(steps))
    return {event.step: event.value for event in events}


def kill(run_dir: Path, torn: int = 0) -> None:
    """Leaves the files as a process killed while it wrote would: the last record torn, nothing closed."""
    if torn:
        newest = max(run_dir.glob("events.*"))
        newest.write_bytes(newest.read_bytes()[:-torn])


def train(run_dir: Path, steps: range, value: float, resume_step: int | None = None) -> TensorBoardTracker:
    tracker = tensorboard(run_dir, resume_step)
    for step in steps:
        tracker.log({TAG: value, "time/fps": 1.0}, step)
    return tracker


@pytest.mark.parametrize("torn", [0, 1, 7, 30])
def test_tensorboard_shows_one_curve_after_several_resumes(tmp_path: Path, torn: int) -> None:
    train(tmp_path, range(10, 70, 10), 1.0)
    kill(tmp_path, torn)
    train(tmp_path, range(50, 100, 10), 2.0, resume_step=40)
    kill(tmp_path, torn)
    train(tmp_path, range(30, 60, 10), 3.0, resume_step=20)  # further back than the resume before
    kill(tmp_path, torn)
    tracker = train(tmp_path, range(50, 90, 10), 4.0, resume_step=40)
    tracker.finish({})
    tracker.close()
    assert scalars(tmp_path) == {10: 1.0, 20: 1.0, 30: 3.0, 40: 3.0, 50: 4.0, 60: 4.0, 70: 4.0, 80: 4.0}


def test_tensorboard_forgets_lost_points_that_never_come_again(tmp_path: Path) -> None:
    tracker = train(tmp_path, range(10, 70, 10), 1.0)
    tracker.log({"eval/mean_reward": 5.0}, 60)
    train(tmp_path, range(30, 50, 10), 2.0, resume_step=20).close()
    assert scalars(tmp_path) == {10: 1.0, 20: 1.0, 30: 2.0, 40: 2.0}
    # No purge at work: not even one file alone, in whatever order, holds the lost points.
    for file in tmp_path.glob("events.*"):
        assert "eval/mean_reward" not in EventAccumulator(str(file)).Reload().Tags()["scalars"]


@pytest.mark.parametrize("accumulator", [EventAccumulator, ServerAccumulator])
def test_tensorboard_that_had_read_the_lost_points_drops_them(
    tmp_path: Path, accumulator: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An open TensorBoard has old points in memory, where only a purge reaches them: as if files could not be mended.
    monkeypatch.setattr(tensorboard_module, "_forget_after", lambda run_dir, step: {})
    train(tmp_path, range(10, 70, 10), 1.0)
    reader = accumulator(str(tmp_path)).Reload()
    train(tmp_path, range(30, 50, 10), 2.0, resume_step=20).close()
    reader.Reload()
    events = reader.Scalars(TAG) if accumulator is EventAccumulator else reader.Tensors(TAG)
    assert [event.step for event in events] == [10, 20, 30, 40]


def test_tensorboard_never_doubles_a_point(tmp_path: Path) -> None:
    tracker = train(tmp_path, range(10, 30, 10), 1.0)
    tracker.log({TAG: 7.0, "eval/mean_reward": 8.0}, 20)
    tracker = tensorboard(tmp_path, 20)
    tracker.log({TAG: 9.0}, 20)
    tracker.log({TAG: 3.0}, 30)
    tracker.finish({TAG: 9.0, "eval/mean_reward": 9.0, "eval/success_rate": 1.0})
    tracker.close()
    assert scalars(tmp_path) == {10: 1.0, 20: 1.0, 30: 3.0}
    assert scalars(tmp_path, "eval/mean_reward") == {20: 8.0}
    assert scalars(tmp_path, "eval/success_rate") == {30: 1.0}


def test_tensorboard_orders_files_where_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, range(10, 40, 10), 1.0)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    train(tmp_path, range(30, 50, 10), 2.0, resume_step=20)
    assert scalars(tmp_path) == {10: 1.0, 20: 1.0, 30: 2.0, 40: 2.0}


def session(run_dir: Path) -> tuple[dict[str, object], int | None]:
    """Hyperparameters and status of the run, as the HParams tab reads them."""
    contents = EventAccumulator(str(run_dir)).Reload().PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    end = contents.get(metadata.SESSION_END_INFO_TAG)
    return values, metadata.parse_session_end_info_plugin_data(end).status if end else None


def test_tensorboard_lists_hyperparameters_and_how_the_run_ended(tmp_path: Path) -> None:
    tracker = train(tmp_path, range(10, 30, 10), 1.0)
    flat = {
        "algo": "ppo",
        "env": "rltrain/CartPole-v1",
        "learning_rate": 0.001,
        "seed": 3.0,
        "settings.agent.learning_rate.schedule": "linear",
        "settings.agent.gamma": 0.99,
        "settings.agent.net_arch": "[64, 64]",
        "settings.agent.clip": "inf",  # as a number it would break the tab
    }
    assert session(tmp_path) == (flat, None)
    tracker.close()
    assert session(tmp_path) == (flat, tensorboard_module.STATUS_FAILURE)
    tracker = tensorboard(tmp_path, 20, {**CONFIG, "seed": 4})
    tracker.finish({})
    tracker.close()
    assert session(tmp_path) == ({**flat, "seed": 4.0}, tensorboard_module.STATUS_SUCCESS)


def test_tensorboard_shows_the_configuration_as_text(tmp_path: Path) -> None:
    train(tmp_path, range(10, 20, 10), 1.0)
    (event,) = EventAccumulator(str(tmp_path)).Reload().Tensors("config")
    text = event.tensor_proto.string_val[0].decode()
    assert text.startswith("```yaml\nalgo: ppo\n")
    assert "  learning_rate: lin_0.001\n" in text
    assert text.endswith("\n```")


def test_tensorboard_shows_pictures_histograms_texts_and_charts(tmp_path: Path) -> None:
    tracker = tensorboard(tmp_path)
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[1, 2] = 255, 128, 0
    tracker.image("eval/frame", picture, 10)
    tracker.histogram("train/weights", np.array([[0.0, 1.0], [math.nan, 3.0]]), 20)
    tracker.histogram("train/nothing", np.array([math.inf]), 20)
    tracker.text("note", "a *word*", 30)
    tracker.layout({"losses": {"both": ["train/value_loss", "train/policy_loss"]}})
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,) = events.Images("eval/frame")
    assert (image.step, image.height, image.width) == (10, 4, 6)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), picture)
    (histogram,) = events.Histograms("train/weights")
    assert (histogram.step, histogram.histogram_value.num, histogram.histogram_value.sum) == (20, 3, 4)
    assert sum(histogram.histogram_value.bucket) == 3
    assert events.Tags()["histograms"] == ["train/weights"]
    (text,) = events.Tensors("note")
    assert (text.step, text.tensor_proto.string_val[0]) == (30, b"a *word*")
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert layout.category[0].title == "losses"
    assert list(layout.category[0].chart[0].multiline.tag) == ["train/value_loss", "train/policy_loss"]


def test_tensorboard_describes_every_tag_once(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(RunInfo(tmp_path, 1000, config=CONFIG, descriptions={"train/mine": "Mine *alone*."}))
    for step in (10, 20):
        tracker.log({TAG: 1.0, "train/mine": 2.0, "train/unknown": 3.0, "info/speed": 1.0}, step)
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    text = {tag: events.SummaryMetadata(tag).summary_description for tag in (TAG, "train/mine", "info/speed")}
    assert text["train/mine"] == "Mine *alone*."
    assert text[TAG].startswith("Mean return")
    assert "`--log-info`" in text["info/speed"]
    assert len(events.Scalars("train/unknown")) == 2


def test_every_metric_of_the_agents_is_described(tmp_path: Path) -> None:
    runs = {"ppo": PENDULUM, "sac": PENDULUM, "dqn": CARTPOLE, "pqn": CARTPOLE}
    for algo, env in runs.items():
        options: dict[str, Any] = {"total_timesteps": 600, "num_envs": 4, "n_eval_episodes": 2, "eval_freq": 200}
        agent = {"n_steps": 32, "batch_size": 32} if algo in ("ppo", "pqn") else {"learning_starts": 64}
        run = rltrain.train(algo, env, run_dir=tmp_path, agent=agent, trackers=["csv"], progress=False, **options)
        for tag in read_progress(run.run_dir / "progress.csv"):
            assert tag == "time/total_timesteps" or description_of(tag), tag
        charts = {tag for charts in charts_of(algo).values() for tags in charts.values() for tag in tags}
        assert all(description_of(tag) for tag in charts)


@pytest.mark.parametrize(("frames", "side"), [(3, 64), (700, 64), (40, 700)])
def test_films_become_small_animations(tmp_path: Path, frames: int, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (frames, side // 8, side // 8, 3), np.uint8)
    pictures = [picture.repeat(8, 0).repeat(8, 1) for picture in noise]
    write_mp4(tmp_path / "film.mp4", pictures, 30.0)
    tracker = tensorboard(tmp_path)
    tracker.video(tmp_path / "film.mp4", 40)
    with pytest.warns(UserWarning, match="TensorBoard does not show the film of step 50"):
        tracker.video(tmp_path / "progress.csv", 50)
    tracker.close()
    (event,) = EventAccumulator(str(tmp_path)).Reload().Images("eval/film")
    assert event.encoded_image_string[:4] == b"GIF8"
    assert len(event.encoded_image_string) <= LIMIT
    film = Image.open(io.BytesIO(event.encoded_image_string))
    assert film.size == (event.width, event.height)
    assert max(film.size) == min(side // 8 * 8, SIDE)
    seconds = 0.0
    for i in range(film.n_frames):  # type: ignore[attr-defined]
        film.seek(i)
        seconds += film.info["duration"] / 1000
    assert seconds == pytest.approx(frames / 30, abs=0.3)
    assert film.n_frames <= PICTURES  # type: ignore[attr-defined]


def test_schedules_are_numbers_with_their_kind() -> None:
    flat = flatten({"agent": {"learning_rate": "lin_5e-3", "clip_range": 0.2, "name": "lin_x", "other": "linear"}})
    assert flat["agent.learning_rate"] == 5e-3
    assert flat["agent.learning_rate.schedule"] == "linear"
    assert flat["agent.clip_range"] == 0.2
    assert flat["agent.name"] == "lin_x"


def test_a_resume_is_marked(tmp_path: Path) -> None:
    train(tmp_path, range(10, 40, 10), 1.0).close()
    train(tmp_path, range(30, 50, 10), 2.0, resume_step=20).close()
    assert scalars(tmp_path, "time/resumed") == {20: 1.0}


# ------------------------------------------------------------------------------------------------------ CSV


def test_csv_has_a_row_per_step_and_grows_its_header(tmp_path: Path) -> None:
    tracker = CsvTracker(info(tmp_path))
    tracker.log({"a": 1.0}, 10)
    tracker.log({"b": 2.5}, 10)
    tracker.log({"a": 1 / 3, "time/total_timesteps": 20.0}, 20)
    tracker.log({"a": 7.0}, 20)  # the later value stands, and is shorter
    assert (tmp_path / "progress.csv").read_text() == "time/total_timesteps,a,b\n10,1,2.5\n20,7,\n"
    tracker.log({"b": -1.0, 'odd, "name"': 4.0}, 30)
    # Nothing is closed: what a killed process leaves.
    assert (tmp_path / "progress.csv").read_text() == (
        'time/total_timesteps,a,b,"odd, ""name"""\n10,1,2.5,\n20,7,,\n30,,-1,4\n'
    )
    progress = read_progress(tmp_path / "progress.csv")
    assert progress["time/total_timesteps"] == [10, 20, 30]
    assert progress["b"] == [2.5, pytest.approx(math.nan, nan_ok=True), -1]
    assert progress['odd, "name"'][2] == 4
    assert [file.name for file in tmp_path.iterdir()] == ["progress.csv"]


@pytest.mark.parametrize("tail", ["", "\n", "40", "40,0.1", "40,1,2", "40,x,\n", "40,1\n", "\0\0\0", "40,1,2,3\n"])
def test_csv_resumes_behind_the_resumed_step(tmp_path: Path, tail: str) -> None:
    tracker = CsvTracker(info(tmp_path))
    for step in (10, 20, 30):
        tracker.log({"a": float(step), "b": 0.5}, step)
    path = tmp_path / "progress.csv"
    path.write_text(path.read_text() + tail)
    assert read_progress(path)["a"] == [10, 20, 30]
    tracker = CsvTracker(info(tmp_path, 20))
    assert read_progress(path)["a"] == [10, 20]
    tracker.log({"b": 9.0}, 20)
    tracker.log({"a": 4.0, "c": 1.0}, 40)
    tracker.finish({"a": 5.0, "d": 6.0})
    tracker.close()
    tracker.close()
    assert path.read_text() == "time/total_timesteps,a,b,c,d\n10,10,0.5,,\n20,20,9,,\n40,4,,1,6\n"


def test_csv_starts_anew_without_a_resume_and_where_the_table_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    for content in ("time/total_timesteps,a\n5,1\n", "not a table\n1\n", ""):
        path.write_text(content)
        CsvTracker(info(tmp_path, None if "5" in content else 10)).log({"b": 2.0}, 20)
        assert path.read_text() == "time/total_timesteps,b\n20,2\n"
    path.unlink()
    CsvTracker(info(tmp_path, 10)).log({"b": 2.0}, 20)
    assert path.read_text() == "time/total_timesteps,b\n20,2\n"


def test_csv_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"progress\.csv' does not exist\. Name a run folder"):
        read_progress(tmp_path / "progress.csv")
    CsvTracker(info(tmp_path))
    with pytest.raises(CheckpointError, match="has no rows yet"):
        read_progress(tmp_path / "progress.csv")


# -------------------------------------------------------------------------------------------------- console


def test_console_writes_few_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    tracker = console(150_000, stream, "ppo on CartPole")
    for _ in range(48):
        now += 0.125
        tracker.log({"rollout/ep_rew_mean": 187.41, "train/loss": 1.0}, round((now - 100) * 10_000))
    tracker.finish({"rollout/success_rate": 0.255, "eval/mean_reward": 200.0})
    tracker.close()
    tracker.close()
    assert stream.getvalue().splitlines() == [
        "  ppo on CartPole",
        "  50,000/150,000 steps   10,000 steps/s   mean reward 187.4   eta 0:10",
        "  60,000/150,000 steps   10,000 steps/s   mean reward 187.4   success 26%   eval 200.0",
    ]


def test_console_leaves_pauses_out_of_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time goes into evaluations; a resumed run has the seconds of earlier sessions in its metrics."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for before, resume_step in ((0.0, None), (500.0, 1_000)):
        stream = io.StringIO()
        tracker = console(30_000, stream, resume_step=resume_step)
        start = resume_step or 0
        tracker.log({"time/eval_seconds": before}, start)
        for second in range(1, 11):
            now += 1.0
            tracker.log({"time/eval_seconds": before + second / 2}, start + second * 1_000)
        assert "2,000 steps/s" in stream.getvalue().splitlines()[-1]
        left = (30_000 - start - 10_000) / 2_000
        assert f"eta 0:{round(left):02}" in stream.getvalue().splitlines()[-1]


def test_console_writes_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = Terminal()
    tracker = ConsoleTracker(
        RunInfo(Path("runs/a"), 1_000, title="a run", config={"log_format": "json"}), stream=stream
    )
    for step in range(100, 600, 100):
        now += 0.5
        tracker.log({"rollout/ep_rew_mean": step / 10, "train/explained_variance": math.nan}, step)
    tracker.close()
    first, *objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first == {"run": "runs/a", "title": "a run", "total_timesteps": 1_000}
    assert [each["step"] for each in objects] == [200, 400, 500]  # one a second, and the last
    assert objects[0]["metrics"] == {"rollout/ep_rew_mean": 20.0, "train/explained_variance": None}
    assert objects[0]["steps_per_second"] == 200.0
    assert (objects[0]["eta_seconds"], objects[-1]["eta_seconds"]) == (4.0, None)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_console_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    tracker = console(10_000_000, stream, "ppo on rltrain/CartPole-v1, seed 0")
    many = {"rollout/success_rate": 0.5, "eval/mean_reward": -1234.5, "train/approx_kl": 0.01, "train/q_value": 12.0}
    for step in range(1, 400):
        tracker.log({"rollout/ep_rew_mean": float(step), "system/memory_gib": 1.5, **many}, step * 10_000)
    tracker.close()
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", stream.getvalue())]
    assert max(map(len, lines)) <= columns
    (curve,) = {line for line in lines[-8:] if line.startswith("return ")}
    assert curve.split()[1] == "".join(sorted(curve.split()[1]))  # it rises
    for text in ("mean reward 399.0", "eval -1234.5", "KL 0.010", "memory 1.5 GiB", "success 50%"):
        assert any(text in line for line in lines), text


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([1.0, 2.0, 3.0], 10) == "▁▅█"
    assert sparkline([float(i) for i in range(100)], 4) == "▁▃▆█"
    assert sparkline([5.0, 5.0, math.nan], 10) == "▅▅"
    assert sparkline([], 10) == ""
    assert sparkline([0.0, 1.0], 10, blocks="_#") == "_#"


def test_console_counts_speed_from_where_the_run_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stream = io.StringIO()
    tracker = console(10_000_000, stream, resume_step=1_000_000)
    now += 10.0
    tracker.log({}, 1_010_000)
    assert stream.getvalue() == "  1,010,000/10,000,000 steps   1,000 steps/s   eta 2:29:50\n"


def test_console_draws_on_a_terminal_and_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    tracker = console(1000, stream, "a [title] with brackets")
    hide, show = "\x1b[?25l", "\x1b[?25h"
    try:
        assert hide in stream.getvalue()
        for step in range(0, 500, 10):
            tracker.log({"rollout/ep_rew_mean": float(step)}, step)
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        tracker.close()
    tracker.close()
    output = stream.getvalue()
    assert output.rindex(show) > output.rindex(hide)
    assert output.count(show) == 1
    assert "a [title] with brackets" in output
    assert "490/1,000 steps" in output
    assert "490.0" in output
    written = len(stream.getvalue())
    time.sleep(0.3)
    assert len(stream.getvalue()) == written  # no thread goes on drawing


def test_console_is_plain_on_a_dumb_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    tracker = console(1000, stream, "title")
    tracker.log({}, 500)
    tracker.close()
    assert "\x1b" not in stream.getvalue()
    assert "500/1,000 steps" in stream.getvalue()


def test_console_outlives_its_reader() -> None:
    stream = io.StringIO()
    tracker = console(1000, stream, "title")
    stream.close()
    tracker.log({}, 500)
    tracker.close()
    assert stream.closed


# ------------------------------------------------------------------------------------------------------ all

MAKERS: dict[str, Callable[[Path], Tracker]] = {
    "csv": lambda run_dir: CsvTracker(info(run_dir)),
    "tensorboard": lambda run_dir: tensorboard(run_dir),
    "plain": lambda run_dir: console(1000, io.StringIO()),
    "live": lambda run_dir: console(1000, Terminal()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_breaks_on_numbers_that_are_not_finite(tmp_path: Path, name: str) -> None:
    tracker = MAKERS[name](tmp_path)
    odd = {TAG: math.nan, "rollout/success_rate": math.inf, "eval/mean_reward": -math.inf, "train/loss": 1e300}
    tracker.log(odd, 10)
    tracker.log(odd, 20)
    tracker.finish(odd)
    tracker.close()
    if name == "csv":
        assert read_progress(tmp_path / "progress.csv")["eval/mean_reward"] == [-math.inf, -math.inf]
        CsvTracker(info(tmp_path, 10))
        assert read_progress(tmp_path / "progress.csv")["rollout/success_rate"] == [math.inf]
    if name == "tensorboard":
        assert math.isnan(scalars(tmp_path)[10])
        assert scalars(tmp_path, "train/loss") == {10: math.inf, 20: math.inf}


@pytest.mark.parametrize("name", MAKERS)
def test_a_log_call_is_cheap(tmp_path: Path, name: str) -> None:
    tracker = MAKERS[name](tmp_path)
    metrics = {TAG: 1.0, **{f"train/metric_{i}": i / 3 for i in range(19)}}
    seconds = []
    for step in range(1, 201):
        start = time.perf_counter()
        tracker.log(metrics, step)
        seconds.append(time.perf_counter() - start)
    tracker.close()
    # Measured: 6 us (plain), 21 (live), 80 (csv), 370 (tensorboard, whose checksum is Python). Ten times that fails.
    limit = {"plain": 1e-4, "live": 3e-4, "csv": 1e-3, "tensorboard": 4e-3}[name]
    assert sorted(seconds)[100] < limit


def test_the_end_is_drawn_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich does not draw the last state there when it stops."""
    calls: list[str] = []
    tracker = console(100, Terminal())
    assert tracker._live is not None
    for name in ("refresh", "stop"):
        original = getattr(tracker._live, name)
        monkeypatch.setattr(tracker._live, name, lambda n=name, f=original: (calls.append(n), f()))
    tracker.log({}, 100)
    calls.clear()
    tracker.close()
    assert calls[0] == "refresh"
    assert "stop" in calls
