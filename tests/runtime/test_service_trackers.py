"""Trackers of other libraries, offline: what they wrote is read back by the library that owns the format."""

from __future__ import annotations

import csv
import json
import math
import os
import socket
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import rltrain
from rltrain import RunInfo, Tracker
from rltrain.plugins import discover, resolve, trackers
from rltrain.process.telemetry import NO_TELEMETRY
from rltrain.trackers.service import places, read_id

CONFIG: dict[str, Any] = {"algo": "ppo", "env": {"id": "rltrain/CartPole-v1"}, "agent": {"gamma": 0.9}}
TRAINING: dict[str, Any] = {
    "total_timesteps": 256,
    "num_envs": 2,
    "n_eval_episodes": 1,
    "video_freq": 128,
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 32},
}
TAG = "rollout/ep_rew_mean"


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_", "COMET_", "TRACKIO_", "DVC", "RLTRAIN_")):
            monkeypatch.delenv(name)
    for name, value in NO_TELEMETRY.items():
        monkeypatch.setenv(name, value)
    for name in ("exit", "excepthook"):  # which Weights & Biases puts hooks of its own in place of
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()


def need(name: str) -> None:
    discover()
    if trackers[name].missing:
        pytest.skip(f"{name} is not installed: {trackers[name].missing}")


def make(name: str, run_dir: Path, resume_step: int | None = None) -> Tracker:
    """A tracker in this process, of a run whose folder has what a run's folder has."""
    need(name)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text("algo: ppo\n")
    tracker: Tracker = resolve(trackers[name].entry_point)(RunInfo(run_dir, 1_000, resume_step, "a title", CONFIG))
    return tracker


def tell(tracker: Tracker, run_dir: Path) -> None:
    """Everything that a run may tell a tracker."""
    tracker.hparams({"agent.gamma": 0.9, "algo": "ppo"})
    tracker.text("config", "algo: ppo", 0)
    tracker.layout({"heading": {"chart": [TAG]}})
    for step in (10, 20):
        tracker.log({TAG: step / 2, "train/loss": math.nan if step == 10 else math.inf}, step)
    tracker.log({"eval/mean_reward": 3.0}, 20)
    tracker.image("picture", np.full((8, 8, 3), 100, np.uint8), 20)
    tracker.histogram("weights", np.array([1.0, 2.0, 3.0, math.nan]), 20)
    film = run_dir / "videos" / "step_20.mp4"
    film.parent.mkdir(exist_ok=True)
    film.write_bytes(b"not really a film")
    tracker.video(film, 20)
    curve = run_dir / "learning_curve.png"
    curve.write_bytes(
        bytes.fromhex(
            "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
        )
    )
    tracker.artifact(curve, "learning_curve")
    checkpoint = run_dir / "checkpoints" / "step_000000000020"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "policy.safetensors").write_bytes(b"weights")
    tracker.artifact(run_dir / "checkpoints" / "gone", "checkpoint")
    tracker.artifact(checkpoint, "checkpoint")
    tracker.finish({TAG: 10.0})


# ----------------------------------------------------------------------------------------- Weights & Biases


def records(file: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: a log of LevelDB, in blocks of 32 KiB, of messages of wandb's own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = file.read_bytes(), 7, b""
    assert b":W&B".startswith(content[:4])  # empty until the first write of wandb's own process
    while at + 7 <= len(content):
        if 32_768 - at % 32_768 < 7:
            at += 32_768 - at % 32_768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def of_kind(file: Path, kind: str) -> list[Any]:
    """The records of a kind, once wandb's own process has written the last one."""
    deadline = time.monotonic() + 20
    while True:
        found = [(record.WhichOneof("record_type"), record) for record in records(file)]
        if any(name == "exit" for name, _ in found) or time.monotonic() > deadline:
            return [getattr(record, kind) for name, record in found if name == kind]
        time.sleep(0.1)


def wandb_rows(file: Path) -> list[dict[str, str]]:
    rows = of_kind(file, "history")
    return [{item.key or item.nested_key[0]: item.value_json for item in row.item} for row in rows]


def test_wandb_offline(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    tracker = make("wandb", run_dir)
    tell(tracker, run_dir)
    tracker.close()
    (file,) = run_dir.glob("wandb/offline-run-*/*.wandb")
    rows = wandb_rows(file)
    assert [(row[TAG], row["time/total_timesteps"]) for row in rows if TAG in row] == [("5", "10"), ("10", "20")]
    assert [row["train/loss"] for row in rows if "train/loss" in row] == ["NaN", "Infinity"]
    assert {"picture", "weights", "videos", "config", "eval/mean_reward"} <= {key for row in rows for key in row}
    (run,) = of_kind(file, "run")
    assert (run.run_id, run.project, run.display_name) == (read_id(run_dir, "wandb"), "rltrain", "CartPole/ppo_1")
    config = {
        item.key or item.nested_key[0]: item.value_json for each in of_kind(file, "config") for item in each.update
    }
    assert config["agent.gamma"] == "0.9"
    metrics = of_kind(file, "metric")
    assert ("*", "time/total_timesteps") in [(metric.glob_name, metric.step_metric) for metric in metrics]
    assert [end.exit_code for end in of_kind(file, "exit")] == [0]
    artifacts = of_kind(file, "artifact")
    kinds = {artifact.type: [content.path for content in artifact.manifest.contents] for artifact in artifacts}
    assert kinds["learning_curve"] == ["learning_curve.png"]
    assert kinds["model"] == ["checkpoints/step_000000000020/policy.safetensors", "config.yaml"]
    assert places(run_dir)["wandb"] == f"wandb sync {file.parent}"
    assert len(list(file.parent.glob("files/media/videos/*.mp4"))) == 1

    again = make("wandb", run_dir, resume_step=20)
    again.log({TAG: 99.0}, 30)
    again.close()  # without finish: it failed
    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))
    assert {file.stem for file in files} == {f"run-{run.run_id}"}
    assert [end.exit_code for end in of_kind(files[-1], "exit")] == [1]


# -------------------------------------------------------------------------------------------------- MLflow


def test_mlflow_in_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    monkeypatch.setenv("RLTRAIN_MLFLOW_MODEL", "cartpole")
    tracker = make("mlflow", run_dir)
    from mlflow.tracking import MlflowClient

    tell(tracker, run_dir)
    tracker.close()
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("rltrain/CartPole-v1")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.run_name) == (read_id(run_dir, "mlflow"), "CartPole/ppo_1")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"agent.gamma": "0.9", "algo": "ppo"}
    points = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, TAG)]
    assert points == [(10, 5.0), (20, 10.0)]

    def names(folder: str) -> list[str]:
        return [each.path for each in client.list_artifacts(run.info.run_id, folder)]

    assert names("videos") == ["videos/step_20.mp4"]
    assert names("learning_curve") == ["learning_curve/learning_curve.png"]
    assert names("texts") == ["texts/config.md"]
    assert names("images/picture") == ["images/picture/000000000020.png"]
    assert names("histograms/weights") == ["histograms/weights/000000000020.json"]
    model = "models/step_000000000020"
    assert names(f"{model}/checkpoints/step_000000000020") == [
        f"{model}/checkpoints/step_000000000020/policy.safetensors"
    ]
    (version,) = client.search_model_versions("name='cartpole'")
    assert (version.run_id, version.source) == (run.info.run_id, f"runs:/{run.info.run_id}/{model}")
    assert (tmp_path / "runs" / "mlartifacts").is_dir()

    again = make("mlflow", run_dir, resume_step=20)
    again.hparams({"agent.gamma": 0.5, "new": 1})
    again.log({TAG: 99.0}, 30)
    again.close()
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.params == {"agent.gamma": "0.9", "algo": "ppo", "new": "1"}
    assert run.data.metrics[TAG] == 99.0


def test_mlflow_writes_to_the_run_of_a_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a job of Azure ML, whose run is there before, and ended by the platform."""
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := f"sqlite:///{tmp_path / 'theirs.db'}")
    pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    theirs = client.create_run(client.create_experiment("job", artifact_location=(tmp_path / "art").as_uri()))
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs.info.run_id)
    for number in (1, 2):
        tracker = make("mlflow", run_dir.with_name(f"ppo_{number}"))
        tracker.log({TAG: float(number)}, 10 * number)
        tracker.close()
    run = client.get_run(theirs.info.run_id)
    assert (run.info.status, run.data.metrics[TAG]) == ("RUNNING", 2.0)
    assert len(client.search_experiments()) == 2  # theirs, and the one that every database has


# --------------------------------------------------------------------------------------------------- Comet


def test_comet_offline(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    tracker = make("comet", run_dir)
    tell(tracker, run_dir)
    tracker.close()
    (archive,) = (run_dir / "comet").glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        facts = json.loads(content.read("experiment.json"))
        messages = [json.loads(line)["payload"] for line in content.read("messages.json").splitlines()]
    assert facts["offline_id"] == read_id(run_dir, "comet")
    assert facts["project_name"] == "rltrain"
    metrics = [each["metric"] for each in messages if "metric" in each]
    assert [(each["metricValue"], each["step"]) for each in metrics if each["metricName"] == TAG] == [(5, 10), (10, 20)]
    params = {each["param"]["paramName"]: each["param"]["paramValue"] for each in messages if each.get("param")}
    assert params["agent.gamma"] == 0.9
    files = {each.get("additional_params", {}).get("fileName") for each in messages}
    assert {"step_20.mp4", "checkpoints/step_000000000020/policy.safetensors"} <= files
    assert places(run_dir)["comet"] == f"comet upload {run_dir}/comet/*.zip"

    again = make("comet", run_dir, resume_step=20)
    again.log({TAG: 99.0}, 30)
    again.close()
    assert len(list((run_dir / "comet").glob("*.zip"))) == 2
    assert read_id(run_dir, "comet") == facts["offline_id"]


# ------------------------------------------------------------------------------------------------- DVCLive


def test_dvclive_in_files(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    tracker = make("dvclive", run_dir)
    tell(tracker, run_dir)
    tracker.log({TAG: 15.0}, 30)
    tracker.close()
    folder = run_dir / "dvclive"

    def points() -> list[tuple[str, float]]:
        table = (folder / "plots" / "metrics" / f"{TAG}.tsv").read_text().splitlines()
        rows = list(csv.DictReader(table, delimiter="\t"))
        return [(row["step"], float(row["ep_rew_mean"])) for row in rows]

    assert points() == [("10", 5.0), ("20", 10.0), ("30", 15.0)]
    assert yaml.safe_load((folder / "params.yaml").read_text()) == {"agent.gamma": 0.9, "algo": "ppo"}
    assert json.loads((folder / "metrics.json").read_text())["rollout"]["ep_rew_mean"] == 15.0
    assert "plots" in yaml.safe_load((folder / "dvc.yaml").read_text())
    assert (folder / "plots" / "images" / "picture" / "20.png").exists()
    assert (folder / "artifacts" / "videos" / "step_20.mp4").read_bytes() == b"not really a film"
    assert (folder / "artifacts" / "model" / "checkpoints" / "step_000000000020" / "policy.safetensors").exists()
    assert (folder / "artifacts" / "config.md").read_text() == "algo: ppo"

    again = make("dvclive", run_dir, resume_step=20)
    again.log({TAG: 7.0}, 40)
    again.close()
    assert points() == [("10", 5.0), ("20", 10.0), ("40", 7.0)]


# ------------------------------------------------------------------------------------------------- Trackio


def test_trackio_in_a_database(tmp_path: Path) -> None:
    """In a process of its own: the library reads where its database is when it is imported."""
    need("trackio")
    run_dir = tmp_path / "runs" / "CartPole" / "ppo_1"
    script = f"""
import sys, json
from pathlib import Path
sys.path[:0] = {sys.path!r}
from test_service_trackers import TAG, make, tell
run_dir = Path({str(run_dir)!r})
tracker = make("trackio", run_dir)
tell(tracker, run_dir)
tracker.close()
again = make("trackio", run_dir, resume_step=20)
again.log({{TAG: 99.0}}, 30)
again.close()
from trackio.sqlite_storage import SQLiteStorage
(run,) = SQLiteStorage.get_runs("rltrain")
logs = SQLiteStorage.get_logs("rltrain", run)
config = SQLiteStorage.get_run_config("rltrain", run)
(run_dir / "read.json").write_text(json.dumps([run, logs, config], default=str))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    run, logs, config = json.loads((run_dir / "read.json").read_text())
    assert run == "CartPole-ppo_1" == read_id(run_dir, "trackio")
    assert [(row[TAG], row["step"]) for row in logs if TAG in row] == [(5.0, 10), (10.0, 20), (99.0, 30)]
    assert {"picture", "weights", "videos", "config"} <= {key for row in logs for key in row}
    assert config["agent"] == {"gamma": 0.9}
    assert list((tmp_path / "runs" / "trackio").glob("rltrain*.db"))
    assert places(run_dir)["trackio"].endswith("trackio show --project rltrain")


# ------------------------------------------------------------------------------------------------- together


SERVICES = ("wandb", "mlflow", "comet", "trackio", "dvclive")


def installed() -> list[str]:
    discover()
    return [name for name in SERVICES if not trackers[name].missing]


def test_several_at_once_and_a_resume_goes_on_with_the_same_runs(tmp_path: Path) -> None:
    names = installed()
    if not names:
        pytest.skip("none of them is installed")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The tracker")
        run = rltrain.train(
            "ppo", "rltrain/CartPole-v1", trackers=[*names, "csv"], run_dir=str(tmp_path / "runs"), **TRAINING
        )
        ids = {name: read_id(run.run_dir, name) for name in names if name != "dvclive"}
        rltrain.resume(run.run_dir, total_timesteps=512, progress=False)
    assert None not in ids.values()
    assert {name: read_id(run.run_dir, name) for name in ids} == ids
    assert places(run.run_dir).keys() == set(names) - {"dvclive"}


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_an_unreachable_network_neither_stops_nor_slows_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    names = installed()
    if not names:
        pytest.skip("none of them is installed")
    from rltrain.trackers import process

    monkeypatch.setattr(process, "CLOSE_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:  # never answers
        port = server.getsockname()[1]
        if how == "refused":
            server.close()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("COMET_API_KEY", "0" * 25)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        begin = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = rltrain.train(
                "ppo", "rltrain/CartPole-v1", trackers=[*names, "csv"], run_dir=str(tmp_path / "runs"), **TRAINING
            )
        seconds = time.monotonic() - begin
    assert run.stopped_by == "total_timesteps"
    assert run.picture is not None
    assert seconds < run.seconds + len(names) * 2 + 10
    about = [str(each.message) for each in caught if "The tracker '" in str(each.message)]
    assert len(about) <= len(names)
