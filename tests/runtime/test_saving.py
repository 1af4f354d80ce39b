"""Checkpoints on a disk that fails, and run folders that move while they are trained."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rltrain
from rltrain import Callback
from rltrain.callbacks import Training
from rltrain.errors import CheckpointError, ConfigError, RunError
from rltrain.runs.checkpoint import load_policy
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of
from rltrain.runs.lock import FolderMoved
from rltrain.runs.verify import find_fault
from rltrain.settings import build_config
from tests.torture.failing_disk import FailingDisk

ENV = "rltrain/CartPole-v1"
TINY: dict[str, Any] = {
    "total_timesteps": 384,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 128,
    "n_eval_episodes": 0,
    "log_interval": 1,
    "keep_checkpoints": 9,
    "device": "cpu",
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}


class At(Callback):
    """Does something before the update after a step."""

    def __init__(self, step: int, what: Callable[[], object]) -> None:
        self.step, self.what, self.done = step, what, False

    def on_rollout(self, trainer: Training) -> None:
        if trainer.global_step >= self.step and not self.done:
            self.done = True
            self.what()


def train(run_dir: Path, *callbacks: Callback, **changes: Any) -> Path:
    return rltrain.train("ppo", ENV, run_dir=run_dir, callbacks=callbacks, **{**TINY, **changes}).run_dir


def run_in(run_dir: Path, algo: str = "ppo") -> Path:
    return run_dir / "rltrain-CartPole-v1" / f"{algo}_1"


def steps(run: Path) -> list[int]:
    found = list_checkpoints(run / "checkpoints")
    assert [find_fault(path) for path in found] == [None] * len(found)
    return [step_of(path) for path in found]


def status(run: Path) -> str:
    return str(RunFolder(run).metadata()["status"])


def same_policy(run: Path, other: Path, step: int) -> bool:
    ours, theirs = (load_policy(each / "checkpoints" / f"step_{step:012d}") for each in (run, other))
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def full(disk: FailingDisk, on: bool = True) -> Callable[[], None]:
    return lambda: setattr(disk, "fails", lambda number: on)


def test_a_full_disk_stops_the_run_and_leaves_the_older_state(tmp_path: Path) -> None:
    run, disk = (
        run_in(tmp_path),
        FailingDisk(tmp_path / "rltrain-CartPole-v1" / "ppo_1" / "checkpoints", error=errno.ENOSPC),
    )
    with disk, pytest.raises(CheckpointError, match=r"step_000000000256' cannot be written: No space left on device"):
        train(tmp_path, At(200, full(disk)))
    assert steps(run) == [128]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000000000128"]
    assert status(run) == "failed"
    assert rltrain.resume(run, progress=False).steps == 384


def test_a_last_checkpoint_goes_to_the_fallback_folder(tmp_path: Path) -> None:
    run, disk = run_in(tmp_path / "runs"), FailingDisk(tmp_path / "runs", error=errno.EIO)
    with disk, pytest.warns(UserWarning, match="tracker"), pytest.raises(CheckpointError) as caught:
        train(tmp_path / "runs", At(200, full(disk)), fallback_dir=str(tmp_path / "other"))
    place = run_in(tmp_path / "other")
    assert f"Step 256 is saved in '{place}'" in caught.value.cause
    assert caught.value.fix == f"Go on with: rltrain resume {place}"
    assert steps(run) == [128]
    assert steps(place) == [256]
    assert rltrain.resume(place, progress=False).steps == 384
    assert same_policy(place, train(tmp_path / "whole"), 384)


def test_a_replay_that_is_written_beside_training_is_no_exception(tmp_path: Path) -> None:
    run, place = run_in(tmp_path / "runs", "dqn"), run_in(tmp_path / "other", "dqn")
    agent = {"buffer_size": 200, "learning_starts": 32, "train_freq": 8}
    options = {**TINY, "agent": agent, "run_dir": tmp_path / "runs", "fallback_dir": str(tmp_path / "other")}
    disk = FailingDisk(run / "checkpoints", error=errno.ENOSPC)
    with disk, pytest.raises(CheckpointError, match=r"step_000000000256' cannot be written: .*Step \d+ is saved in"):
        rltrain.train("dqn", ENV, callbacks=[At(200, full(disk))], **options)
    assert steps(run) == [128]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_000000000128"]
    assert 256 <= steps(place)[0] < 384
    assert rltrain.resume(place, progress=False).steps == 384


def test_training_goes_on_without_a_checkpoint_where_that_is_asked_for(tmp_path: Path) -> None:
    disk = FailingDisk(run_in(tmp_path / "runs") / "checkpoints", error=errno.EDQUOT)
    with disk, pytest.warns(UserWarning, match=r"step_000000000256' cannot be written: .* Training goes on without it"):
        run = train(tmp_path / "runs", At(200, full(disk)), At(300, full(disk, False)), if_save_fails="continue")
    assert steps(run) == [128, 384]
    assert status(run) == "completed"
    assert same_policy(run, train(tmp_path / "whole"), 384)


def test_the_last_checkpoint_is_needed_all_the_same(tmp_path: Path) -> None:
    disk = FailingDisk(run_in(tmp_path) / "checkpoints", error=errno.ENOSPC)
    with disk, pytest.warns(UserWarning, match="goes on"), pytest.raises(CheckpointError, match="step_000000000384"):
        train(tmp_path, At(200, full(disk)), if_save_fails="continue")
    assert steps(run_in(tmp_path)) == [128]


def test_trackers_on_a_full_disk_never_end_a_run(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    disk = FailingDisk(run / "progress.csv", error=errno.ENOSPC)
    with disk, pytest.warns(UserWarning, match=r"tracker 'csv' failed.*progress\.csv"):
        train(tmp_path, At(100, lambda: setattr(disk, "fails", lambda number: disk.done[number] == "write")))
    assert status(run) == "completed"
    table = (run / "progress.csv").read_text()
    assert table.endswith("\n")
    assert [line.split(",")[0] for line in table.splitlines()[1:]] == ["64"]


def test_a_run_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    config = build_config("ppo", ENV, {"run_dir": str(tmp_path)})[0]
    run_in(tmp_path).parent.mkdir()
    facts: dict[str, Any] = {"mode": {}, "total_timesteps": 9, "observation_space": {}, "action_space": {}}
    failed = []
    for number in range(12):
        with FailingDisk(run_in(tmp_path), lambda n, number=number: n == number, errno.ENOSPC) as disk:
            if number == 1:  # the lock makes the folder that it lies in, which is there
                RunFolder.create(config, facts).release()
                shutil.rmtree(run_in(tmp_path))
                continue
            with pytest.raises(ConfigError, match=r"cannot be made in .*No space left on device"):
                RunFolder.create(config, facts)
        assert list(run_in(tmp_path).parent.iterdir()) == []
        failed.append(disk.done[number])
    assert set(failed) == {"mkdir", "open", "write", "fsync", "replace"}


def test_a_run_folder_that_moves_is_noticed_and_saved_where_it_is(tmp_path: Path) -> None:
    run, place = run_in(tmp_path), tmp_path / "moved"
    with pytest.raises(FolderMoved, match=rf"ppo_1' was moved to '{place}' while it trained. Step 192 is saved in"):
        train(tmp_path, At(150, lambda: os.rename(run, place)))
    assert not run.exists()
    assert steps(place) == [128, 192]
    assert json.loads((place / "metadata.json").read_text())["status"] == "failed"
    assert rltrain.resume(place, progress=False).steps == 384
    assert same_policy(place, train(tmp_path / "whole"), 384)


def test_a_run_folder_that_is_removed_is_noticed(tmp_path: Path) -> None:
    run = run_in(tmp_path / "runs")
    with pytest.raises(RunError, match="was moved or removed while it trained"):
        train(tmp_path / "runs", At(150, lambda: shutil.rmtree(run)))
    assert not run.exists()
    other = str(tmp_path / "other")
    with pytest.raises(RunError, match="Step 192 is saved in"):
        train(tmp_path / "runs", At(150, lambda: shutil.rmtree(run)), fallback_dir=other)
    assert steps(run_in(tmp_path / "other")) == [192]
