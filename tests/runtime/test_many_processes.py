"""Ranks started by ``--nproc`` and by ``torchrun``, interrupted and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_resume import CARTPOLE, flags, scalars

from rltrain.distributed.ranks import is_first, job_name
from rltrain.distributed.spawn import Starter
from rltrain.errors import RankFailed
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of

TOTAL = 20_000
OPTIONS: dict[str, Any] = {
    "total_timesteps": TOTAL,
    "num_envs": 16,
    "num_threads": 1,
    "save_freq": 1_000,
    "keep_checkpoints": 100,
    "n_eval_episodes": 0,
    "agent": {"n_steps": 32, "batch_size": 128, "n_epochs": 2, "learning_rate": 0.001},
}
PATIENCE = 100  # seconds


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts modules of Python in sessions of their own, of which nothing is left in the end."""
    processes = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        for one in ranks_of(process):
            one.kill()
        process.kill()
        process.communicate()


def ranks_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that it has started."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def train_words(run_dir: Path) -> list[str]:
    return ["rltrain", "train", "ppo", CARTPOLE, *flags({**OPTIONS, "run_dir": run_dir}), "--no-progress"]


def folder_in(run_dir: Path) -> Path:
    return run_dir / CARTPOLE.replace("/", "-") / "ppo_1"


def until_saved(process: subprocess.Popen[str], run: Path, more_than: int = 0) -> None:
    """Waits for a checkpoint while it runs."""
    deadline = time.monotonic() + PATIENCE
    while not any(step_of(path) > more_than for path in list_checkpoints(run / "checkpoints")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def steps_of(run: Path) -> list[int]:
    """Where the curve of losses has its points."""
    return [step for step, _ in scalars(run)["train/loss"]]


def test_nproc_is_interrupted_as_one_and_resumes_as_many(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    run = folder_in(tmp_path)
    process = started(*train_words(tmp_path), "--nproc", "2")
    until_saved(process, run)
    (other,) = ranks_of(process)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT, said
    assert not other.is_running()
    assert said[0].count("interrupted; go on with") == said[1].count("settings:") == 1
    metadata = RunFolder(run).metadata()
    assert metadata["status"] == "interrupted"
    assert metadata["mode"]["ranks"] == 2
    saved = metadata["steps"]
    assert step_of(list_checkpoints(run / "checkpoints")[-1]) == saved < TOTAL

    process = started("rltrain", "resume", str(run), "--no-progress")
    until_saved(process, run, saved)
    ranks_of(process)[0].kill()
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, said
    cause, fix = said[1].splitlines()
    assert cause == "error: Rank 1 was killed by SIGKILL, and the others cannot train without it."
    assert "rltrain resume" in fix
    metadata = RunFolder(run).metadata()
    assert metadata["resumed_at"] == [saved]
    assert metadata["status"] == "failed"


def test_torchrun_starts_a_killed_rank_again_and_the_curve_goes_on(
    tmp_path: Path, started: Callable[..., subprocess.Popen[str]]
) -> None:
    run = folder_in(tmp_path)
    torchrun = ("torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1", "-m")
    process = started(*torchrun, *train_words(tmp_path))
    until_saved(process, run)
    victim = next(rank for rank in ranks_of(process) if rank.environ().get("RANK") == "1")
    victim.kill()
    said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    metadata = RunFolder(run).metadata()
    assert metadata["status"] == "completed"
    assert metadata["steps"] >= TOTAL
    (resumed,) = metadata["resumed_at"]
    assert 0 < resumed < TOTAL
    assert [path.name for path in run.parent.iterdir()] == ["ppo_1"]
    assert steps_of(run) == list(range(512, metadata["steps"] + 1, 512))  # every update, and none twice


@pytest.mark.parametrize(
    ("name", "restarts", "known"),
    [
        (None, "0", None),
        ("none", "0", ("none", False)),
        ("none", "1", ("none", True)),
        ("slurm-7", "0", ("slurm-7", True)),
    ],
)
def test_a_job_with_a_name_or_a_second_try_goes_on(
    name: str | None, restarts: str, known: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if name is not None:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    assert job_name() == known


def test_a_job_finds_what_it_has_begun_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rltrain

    def train(job: str | None, **changes: Any) -> tuple[str, list[int]]:
        if job is None:
            monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        else:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
        options = {**OPTIONS, "total_timesteps": 1_024, "run_dir": tmp_path, **changes}
        run = rltrain.train("ppo", CARTPOLE, progress=False, **options).run_dir
        metadata = RunFolder(run).metadata()
        assert metadata.get("job") == job
        return run.name, metadata.get("resumed_at", [])

    def unfinished(name: str) -> None:
        """As if it had been killed after its first checkpoint."""
        folder = RunFolder(tmp_path / CARTPOLE.replace("/", "-") / name)
        folder.update_metadata({"status": "running"})
        last = list_checkpoints(folder.checkpoints)[-1]
        last.rename(last.with_name("gone"))

    assert train("a", save_freq=512) == ("ppo_1", [])
    unfinished("ppo_1")
    assert train("b", save_freq=512) == ("ppo_2", [])  # another job
    assert train("a", save_freq=256) == ("ppo_3", [])  # with other settings
    assert train(None, save_freq=512) == ("ppo_4", [])
    assert train("a", save_freq=512) == ("ppo_1", [512])
    assert train("a", save_freq=512) == ("ppo_5", [])  # it was finished


def test_a_rank_that_does_not_come_is_not_waited_for() -> None:
    with Starter(2, ["no-such-verb"]) as starter, pytest.raises(RankFailed, match="Rank 1 left with exit code 2"):
        starter.wait(lambda: False)


def test_the_first_rank_is_known_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, size, first in (("0", "2", True), ("1", "2", False), ("1", "1", True)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", size)
        assert is_first() is first
