"""The run folder: numbered, locked, with correct metadata."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.runs.checkpoint import save_checkpoint
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import STATE, list_checkpoints
from rltrain.runs.machine import describe_machine
from rltrain.settings import build_config, load_config

RECORD: dict[str, Any] = {"mode": {}, "total_timesteps": 9, "observation_space": {}, "action_space": {}}


def config(run_dir: Path, **changes: Any) -> TrainConfig:
    return build_config("ppo", "rltrain/CartPole-v1", {"run_dir": str(run_dir), **changes})[0]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(config(tmp_path), RECORD)


def save(folder: RunFolder, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder.checkpoints, step, {"x": torch.ones(1)}, {"step": step})


def test_a_new_folder_says_what_it_is(tmp_path: Path) -> None:
    wanted = config(tmp_path, seed=4)
    folder = RunFolder.create(wanted, RECORD)
    assert folder.path == tmp_path / "rltrain-CartPole-v1" / "ppo_1"
    assert folder.config() == wanted
    assert folder.metadata() == RECORD
    assert load_config(folder.path / "config.yaml")["seed"] == 4
    assert list(folder.checkpoints.iterdir()) == []


def test_many_at_once_get_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: RunFolder.create(config(tmp_path), RECORD), range(16)))
    names = sorted((folder.path.name for folder in folders), key=lambda name: int(name[4:]))
    assert names == [f"ppo_{number}" for number in range(1, 17)]


@pytest.mark.parametrize("place", ["runs", "runs/rltrain-CartPole-v1"])
def test_a_file_in_the_way(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("")
    with pytest.raises(ConfigError, match="cannot be made in"):
        RunFolder.create(config(tmp_path / "runs"), RECORD)


def test_one_process_at_a_time(folder: RunFolder) -> None:
    other = RunFolder(folder.path)
    with pytest.raises(RunError, match="in use by another process"):
        other.lock()
    folder.release()
    other.lock()
    other.release()


def test_a_killed_process_leaves_no_lock(folder: RunFolder) -> None:
    folder.release()
    code = (
        "import pathlib, os; from rltrain.runs.folder import RunFolder; "
        f"RunFolder(pathlib.Path({str(folder.path)!r})).lock()"
    )
    done = subprocess.run([sys.executable, "-c", f"{code}; os.kill(os.getpid(), 9)"])
    assert done.returncode == -9
    assert (folder.path / ".lock").exists()
    folder.lock()


def test_open_takes_a_run_or_one_of_its_checkpoints(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    save(folder, 5)
    [checkpoint] = list_checkpoints(folder.checkpoints)
    for path, expected in ((folder.path, None), (f"{folder.path}/", None), (checkpoint, checkpoint)):
        opened, named = RunFolder.open(path)
        assert (opened.path, named) == (folder.path, expected)
    monkeypatch.chdir(checkpoint.parent)
    opened, named = RunFolder.open(checkpoint.name)
    assert opened.path == folder.path
    assert opened.checkpoint(named or "latest")[0] == checkpoint


def test_open_points_to_a_run_nearby(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        RunFolder.open(tmp_path)
    assert str(folder.path) in caught.value.fix
    with pytest.raises(CheckpointError, match="There is no run folder"):
        RunFolder.open(tmp_path / "nowhere")


def test_the_latest_is_the_newest_that_is_whole(folder: RunFolder) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        folder.checkpoint()
    save(folder, 5, 10, 100)
    oldest, middle, newest = list_checkpoints(folder.checkpoints)
    assert folder.checkpoint() == (newest, [])
    (newest / STATE).unlink()
    (middle / STATE).write_text("")
    found, warnings = folder.checkpoint()
    assert found == oldest
    assert [(str(path) in line, STATE in line) for path, line in zip((newest, middle), warnings, strict=True)] == [
        (True, True),
        (True, True),
    ]
    (oldest / STATE).unlink()
    with pytest.raises(CheckpointError, match=rf"is whole.*{STATE}"):
        folder.checkpoint()


@pytest.mark.parametrize("form", [int, str, lambda step: f"{step:012d}", lambda step: Path(f"step_{step:012d}")])
def test_a_checkpoint_by_its_step(folder: RunFolder, form: Any) -> None:
    save(folder, 5, 10)
    first, _ = list_checkpoints(folder.checkpoints)
    assert folder.checkpoint(form(5)) == (first, [])
    with pytest.raises(CheckpointError, match="no checkpoint") as caught:
        folder.checkpoint(form(6))
    assert caught.value.fix == "It has: latest, 5, 10."
    (first / STATE).unlink()
    with pytest.raises(CheckpointError, match=rf"is damaged: {STATE} is missing"):
        folder.checkpoint(form(5))  # what was asked for by name is not exchanged for another


def test_the_best(folder: RunFolder) -> None:
    save(folder, 5, 10)
    with pytest.raises(CheckpointError, match="was not evaluated"):
        folder.checkpoint("best")
    folder.set_best(5, 1.5)
    assert folder.best() == {"step": 5, "mean_reward": 1.5, "checkpoint": "step_000000000005"}
    assert folder.checkpoint("best") == (list_checkpoints(folder.checkpoints)[0], [])
    folder.set_best(7, 2.0)
    with pytest.raises(CheckpointError, match="no checkpoint '7'"):
        folder.checkpoint("best")
    folder.set_best(None, float("-inf"))
    assert folder.best() is None
    for text in ("", "[]", "{}", "3", "\0"):
        (folder.checkpoints / "best.json").write_text(text)
        assert folder.best() is None, text


def test_records_are_added_to(folder: RunFolder) -> None:
    folder.update_metadata({"status": "running", "steps": 1})
    folder.update_metadata({"steps": 2})
    assert folder.metadata() == {**RECORD, "status": "running", "steps": 2}


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "null", "{}"])
def test_a_damaged_record(folder: RunFolder, text: str) -> None:
    (folder.path / "metadata.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"metadata.json' cannot be read"):
        folder.metadata()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("env: evil:Env-v0\nalgo: ppo", "names code to run: 'evil:Env-v0'"),
        ("env: {id: 'evil:Env-v0'}\nalgo: ppo", "names code to run: 'evil:Env-v0'"),
        ("env: 3\nalgo: ppo", "env=3"),
        ("env: {id: x}", "no agent 'None'"),
        ("algo: ppo", "'env.id' is missing"),
        ("env: {id: x}\nalgo: ppo\nagent: {gamma: 2}", "agent.gamma=2"),
        ("env: {id: x}\nalgo: ppo\nnew_option: 2", "no option 'new_option'"),
        ("", "holds no settings"),
    ],
)
def test_a_changed_configuration(folder: RunFolder, text: str, cause: str) -> None:
    (folder.path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        folder.config()
    assert cause in caught.value.cause


def test_the_machine_is_described_in_plain_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/rltrain", "train", "--run-dir", "my runs"])
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    facts = json.loads(json.dumps(describe_machine()))
    assert facts["command"] == "rltrain train --run-dir 'my runs'"
    assert facts["git_commit"] is None
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
