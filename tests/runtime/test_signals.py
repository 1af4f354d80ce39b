"""Signals are heard in evaluations, films and waits, the first says so at once; ``sys.exit()`` ends no run quietly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from counting import Counting
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.cli import main
from rltrain.runs.layout import list_checkpoints
from rltrain.training.signals import Interrupt

SETTINGS: dict[str, Any] = {
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
    "num_envs": 4,
    "total_timesteps": 64,
    "progress": False,
    "trackers": [],
    "num_threads": 1,
}
SAID = "finishing this update and saving; once more to leave now\n"


@dataclass
class Walk:
    steps: Tensor  # (N,)


class Signalling(rltrain.TensorEnv[Walk]):
    """Episodes without end, which the process gets a signal, or the order to exit, in the middle of.

    Args:
        at: The step, counted over all environments of this kind.
        number: The signal; None to call ``sys.exit()``.
    """

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)
    taken = 0

    def __init__(self, at: int = 0, number: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.at, self.number = at, number

    def reset(self, n: int, rng: torch.Generator | None) -> Walk:
        return Walk(torch.zeros(n))

    def step(self, state: Walk, action: Tensor, rng: torch.Generator | None) -> tuple[Walk, Tensor, Tensor]:
        type(self).taken += 1
        if self.taken == self.at:
            sys.exit(0) if self.number is None else signal.raise_signal(self.number)
        return Walk(state.steps + 1), torch.ones_like(state.steps), torch.zeros_like(state.steps, dtype=torch.bool)

    def observe(self, state: Walk) -> Tensor:
        return torch.zeros_like(state.steps).unsqueeze(1)

    def render(self, state: Walk, index: int) -> Tensor:
        return torch.zeros(8, 8, 3, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _none_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Signalling, "taken", 0)


def train(folder: Path, at: int, number: int | None, **settings: Any) -> rltrain.RunResult:
    kwargs = {"at": at, "number": number}
    return rltrain.train("ppo", Signalling, env_kwargs=kwargs, run_dir=folder, **{**SETTINGS, **settings})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_says_so_at_once_and_the_second_ends(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with Interrupt() as interrupted:
        assert not interrupted()
        signal.raise_signal(number)
        assert capfd.readouterr().err == SAID
        assert interrupted.signal == number
        assert {signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)} == {signal.SIG_DFL}
    with Interrupt() as again:
        assert not again()


def test_the_evaluation_at_the_end_is_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = train(tmp_path, at=16 + 40, number=signal.SIGINT)
    assert Signalling.taken < 16 + 40 + 2
    assert (result.steps, result.stopped_by, result.signal, result.evaluation) == (
        64,
        "total_timesteps",
        signal.SIGINT,
        None,
    )
    assert capfd.readouterr().err == SAID
    metadata = json.loads((result.run_dir / "metadata.json").read_text())
    assert (metadata["status"], metadata["evaluation"]) == ("completed", None)
    assert rltrain.load(result.run_dir, env=Signalling).step == 64


@pytest.mark.parametrize("what", [{"eval_freq": 64}, {"video_freq": 64}], ids=str)
def test_an_evaluation_and_a_film_in_between_are_left_and_the_run_saves(what: dict[str, int], tmp_path: Path) -> None:
    result = train(tmp_path, at=16 + 40, number=signal.SIGTERM, total_timesteps=640, **what)
    assert Signalling.taken < 16 + 40 + 2
    assert (result.steps, result.stopped_by, result.signal) == (64, "interrupted", signal.SIGTERM)
    assert [path.name for path in list_checkpoints(result.run_dir / "checkpoints")] == ["step_000000000064"]
    assert not list((result.run_dir / "videos").glob("*"))


def test_to_exit_inside_an_environment_of_tensors_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(rltrain.RunError, match=r"told to exit with 0 in line \d+ of .*test_signals\.py"):
        train(tmp_path, at=9, number=None)
    (run,) = tmp_path.glob("*/*")
    assert json.loads((run / "metadata.json").read_text())["status"] == "failed"


def test_to_exit_is_a_failure_on_the_command_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text(
        "import sys\nimport gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
        "class Leaves(CartPoleEnv):\n    taken = 0\n\n    def step(self, action):\n        self.taken += 1\n"
        "        return sys.exit(0) if self.taken > 9 else super().step(action)\n\n\n"
        "gymnasium.register('Leaves-v0', entry_point=Leaves)\n"
    )
    monkeypatch.chdir(tmp_path)
    words = "train ppo leaving:Leaves-v0 --run-dir out --no-progress --env.vectorization sync --total-timesteps 64"
    assert main(words.split()) == 3
    error = capsys.readouterr().err
    assert "error: Environment 0 failed in step: SystemExit: 0." in error


class HangsLater(Counting):
    """Hangs in a step, in worker processes alone."""

    def step(self, action: Any) -> Any:
        if self.total == 9 and os.getpid() != self.spare:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()
        return super().step(action)


def test_a_run_leaves_workers_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rltrain.adapters.workers.HANGS", 0.6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    options = {"vectorization": "async", "start_method": "fork"}
    settings = {**SETTINGS, "agent": {**SETTINGS["agent"], "n_steps": 4, "batch_size": 16}, "save_freq": 16}
    result = rltrain.train(
        "ppo", HangsLater, env_kwargs={"spare": os.getpid()}, env_options=options, run_dir=tmp_path, **settings
    )
    assert (result.stopped_by, result.signal) == ("interrupted", signal.SIGTERM)
    assert [path.name for path in list_checkpoints(result.run_dir / "checkpoints")][-1] == "step_000000000032"


class HangsAfterASignal(Counting):
    """Gets a signal in a step, and then waits for something that never comes."""

    def step(self, action: Any) -> Any:
        if self.total == 9:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(600)
        return super().step(action)


def test_a_run_leaves_an_environment_in_its_own_process_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rltrain.training.signals.HANGS", 0.6)
    settings = {**SETTINGS, "agent": {**SETTINGS["agent"], "n_steps": 4, "batch_size": 16}, "save_freq": 16}
    options = {"vectorization": "sync"}
    began = time.monotonic()
    result = rltrain.train("ppo", HangsAfterASignal, env_options=options, run_dir=tmp_path, **settings)
    assert time.monotonic() - began < 60
    assert (result.stopped_by, result.signal) == ("interrupted", signal.SIGTERM)
    assert [path.name for path in list_checkpoints(result.run_dir / "checkpoints")][-1] == "step_000000000032"
    assert capfd.readouterr().err.startswith(SAID)


DEAF = """
import hashlib, sys
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv
import rltrain

class Deaf(CartPoleEnv):
    taken = 0

    def step(self, action):
        self.taken += 1
        if self.taken == 40:
            print("deaf", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in code of C
        return super().step(action)

rltrain.train("ppo", Deaf, env_options={"vectorization": "sync"}, num_envs=1, n_eval_episodes=0, progress=False,
              trackers=[], total_timesteps=64, agent={"n_steps": 64, "batch_size": 64}, run_dir=sys.argv[1])
"""


def test_signals_are_heard_in_code_of_c_and_the_second_ends_it(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    command = [sys.executable, str(tmp_path / "deaf.py"), str(tmp_path / "runs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "deaf\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.stderr.readline() == SAID
            process.send_signal(signal.SIGINT)
            assert process.wait(20) in (130, -signal.SIGINT)  # the latter if it was not in C yet
        finally:
            process.kill()
