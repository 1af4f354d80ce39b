"""Workers that die: the error names them, nothing is left behind, and a checkpoint is kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import counting
import pytest
import torch
from counting import Counting

from rltrain.adapters.from_gymnasium import GymVecEnv
from rltrain.adapters.workers import Workers
from rltrain.cli import main
from rltrain.errors import RunError
from rltrain.make import make_vec

START_METHODS = ("fork", "spawn", "forkserver")
SHORT = shlex.split(
    "--num-envs 4 --agent.n-steps 16 --agent.batch-size 64 --agent.n-epochs 1 --n-eval-episodes 2 --no-progress "
    "--num-threads 1 --device cpu"
)


def make(n: int = 6, **options: Any) -> GymVecEnv:
    vec = make_vec(Counting, n, vectorization="async", **options)
    assert isinstance(vec, GymVecEnv)
    vec.reset(0)
    return vec


def processes(vec: GymVecEnv) -> list[Any]:
    assert isinstance(vec._envs, Workers)
    return vec._envs._processes


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, "they are still there"
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_killed_worker_is_named_and_none_is_left(start_method: str) -> None:
    vec = make(start_method=start_method)
    pids = [process.pid for process in processes(vec)]
    assert len(pids) == 2
    action = torch.zeros(6, dtype=torch.int64)
    vec.step(action)
    os.kill(pids[1], signal.SIGKILL)
    wait_until_gone(pids[1:])
    with pytest.raises(RunError, match=rf"Worker 1 \(process {pids[1]}\).* 4 to 5, was killed by SIGKILL"):
        vec.step(action)
    vec.close()
    wait_until_gone(pids)


def test_a_worker_that_dies_within_a_step_is_named() -> None:
    vec = make(kill_at=2, spare=os.getpid())
    action = torch.zeros(6, dtype=torch.int64)
    vec.step(action)
    with pytest.raises(RunError, match=r"Worker 0 .* was killed by SIGKILL"):
        vec.step(action)
    vec.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_their_master(number: int) -> None:
    vec = make()
    for process in processes(vec):
        os.kill(process.pid, number)
    assert vec.step(torch.zeros(6, dtype=torch.int64)).reward.tolist() == [1.0] * 6
    vec.close()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_other_processes_still_take_notice(start_method: str) -> None:
    make(start_method=start_method).close()
    other: Any = multiprocessing.get_context(start_method).Process(target=time.sleep, args=(60,))
    other.start()
    other.terminate()
    other.join(10)
    assert other.exitcode == -signal.SIGTERM


def test_closing_and_forgetting_end_the_workers() -> None:
    for forget in (False, True):
        vec = make()
        pids = [process.pid for process in processes(vec)]
        if not forget:
            vec.close()
        del vec
        wait_until_gone(pids)


class Unmakeable(Counting):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if os.environ.get("COUNTING_FAILS") == str(os.getppid()):
            raise OSError("no room")


def test_a_worker_that_cannot_make_its_environments_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTING_FAILS", str(os.getpid()))
    with pytest.raises(RunError, match=r"cannot make its environments: .*no room") as caught:
        make_vec(Unmakeable, 2, vectorization="async", start_method="fork")
    assert "of test_workers.py" in caught.value.fix


class Simulated(Counting):
    """Starts a process of its own, as simulators do."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.simulator = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.01,))
        self.simulator.start()
        self.simulator.join()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_environments_in_workers_may_start_processes(start_method: str) -> None:
    vec = make_vec(Simulated, 2, vectorization="async", start_method=start_method)
    vec.reset(0)
    pids = [process.pid for process in processes(vec)]
    vec.close()
    wait_until_gone(pids)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_killed_worker_ends_the_run_and_its_checkpoint_is_whole(
    start_method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "ppo", "counting:Counting-v0", "--run-dir", str(tmp_path), *SHORT, "--save-freq", "64"]
    words += ["--env.vectorization", "async", "--env.start-method", start_method, "--total-timesteps", "1000000"]
    assert main([*words, "--env.kwargs.kill-at", "40", "--env.kwargs.spare", str(os.getpid())]) == 3
    error = capsys.readouterr().err
    assert "was killed by SIGKILL" in error
    assert "rltrain resume" in error
    run = tmp_path / "Counting-v0" / "ppo_1"
    assert json.loads((run / "metadata.json").read_text())["status"] == "failed"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step_000000000064", "step_000000000128"]
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("kill_at: 40", "kill_at: 1000000"))
    assert main(["resume", str(run), "--total-timesteps", "192", "--no-progress"]) == 0
    assert "start anew" in capsys.readouterr().err


SCRIPT = """
import sys, time
import torch
from counting import Counting
from rltrain.make import make_vec

if __name__ == "__main__":
    vec = make_vec(Counting, 6, vectorization="async", start_method=sys.argv[1])
    vec.reset(0)
    print(*(process.pid for process in vec._envs._processes), flush=True)
    while True:
        vec.step(torch.zeros(6, dtype=torch.int64))
"""


def assert_workers_go_with_their_master(script: Path, start_method: str, wait: float = 0.0) -> None:
    """Runs a script, and kills it some seconds after it has told the processes of its workers."""
    path = [str(Path(__file__).parent), str(Path(counting.__file__).parent), os.environ.get("PYTHONPATH", "")]
    master = subprocess.Popen(
        [sys.executable, script, start_method],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    assert master.stdout is not None
    pids = [int(word) for word in master.stdout.readline().split()]
    assert pids
    time.sleep(wait)
    master.kill()
    master.wait()
    wait_until_gone(pids)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_workers_go_when_their_master_is_killed(start_method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert_workers_go_with_their_master(script, start_method)


class Hangs(Counting):
    """Does not come back from a step.

    Args:
        hang_at: The step.
        exit_at: Step in which ``sys.exit()`` is called.
    """

    def __init__(self, hang_at: int | None = None, exit_at: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hang_at, self.exit_at = hang_at, exit_at

    def step(self, action: Any) -> Any:
        if self.total + 1 == self.hang_at and os.getpid() != self.spare:
            time.sleep(3600)
        if self.total + 1 == self.exit_at:
            sys.exit(0)
        return super().step(action)


def act(vec: Any, steps: int) -> None:
    for _ in range(steps):
        vec.step(torch.zeros(vec.num_envs, dtype=torch.int64))


def test_an_environment_that_hangs_is_named_and_its_time_is_limited() -> None:
    vec: Any = make_vec(Hangs, 6, vectorization="async", step_timeout=0.5, hang_at=3)
    vec.reset(0)
    pids = [process.pid for process in processes(vec)]
    act(vec, 2)
    with pytest.raises(RunError, match=r"Environment \d did not answer within 0\.5 s \(--env\.step-timeout\)"):
        act(vec, 1)
    vec.close()
    wait_until_gone(pids)


class Slow(Counting):
    """Takes long for its second step, but in the main process only the third environment does."""

    made = 0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        type(self).made += 1
        self.number = type(self).made  # the first is made to look at its spaces

    def step(self, action: Any) -> Any:
        outcome = super().step(action)
        if self.steps == 2 and (self.number == 4 or os.getpid() != self.spare):
            time.sleep(1.2)
        return outcome


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_a_step_that_takes_long_is_warned_of(vectorization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rltrain.adapters.progress.HANGS", 0.3)
    monkeypatch.setattr(Slow, "made", 0)
    vec = make_vec(Slow, 3, vectorization=vectorization, spare=os.getpid())
    vec.reset(0)
    number = "2" if vectorization == "sync" else "[012]"
    with pytest.warns(UserWarning, match=rf"Environment {number} of 'Slow' has not answered for"):
        act(vec, 2)
    vec.close()


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_to_exit_inside_an_environment_is_its_failure(vectorization: str) -> None:
    vec = make_vec(Hangs, 2, vectorization=vectorization, exit_at=2)
    vec.reset(0)
    with pytest.raises(RunError, match=r"Environment \d failed in step: SystemExit: 0"):
        act(vec, 2)
    vec.close()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_worker_that_hangs_dies_with_its_master(start_method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    hanging = SCRIPT.replace("Counting, 6,", "Hangs, 6, hang_at=2, spare=0,")
    hanging = hanging.replace("from counting import Counting", "from test_workers import Hangs")
    script.write_text(hanging)
    assert_workers_go_with_their_master(script, start_method, wait=0.3)  # all hang by then
