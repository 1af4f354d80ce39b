"""What a run that fails says: what was being done, and the file in its folder with the traceback."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch

import rltrain
from rltrain.cli import main
from rltrain.errors import ConfigError, RunError
from rltrain.plugins import VerbSpec, verbs

QUICK: dict[str, Any] = {
    "num_envs": 2,
    "total_timesteps": 128,
    "n_eval_episodes": 1,
    "device": "cpu",
    "progress": False,
    "trackers": ["csv"],
    "agent": {"n_steps": 16, "batch_size": 32, "n_epochs": 1},
}


class Breaks(rltrain.Callback):
    def on_rollout(self, trainer: Any) -> None:
        if trainer.global_step >= 64:
            raise RuntimeError("the memory of my callback")


def run_in(folder: Path) -> Path:
    (run,) = folder.glob("*/ppo_1")
    return run


def test_an_unforeseen_exception_keeps_its_class_and_leaves_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the memory of my callback") as caught:
        rltrain.train("ppo", "rltrain/CartPole-v1", callbacks=[Breaks()], run_dir=tmp_path, **QUICK)
    run = run_in(tmp_path)
    told = (run / "traceback.txt").read_text()
    assert "in on_rollout" in told
    assert told.rstrip().endswith("RuntimeError: the memory of my callback")
    assert any(str(run / "traceback.txt") in note for note in caught.value.__notes__)
    assert json.loads((run / "metadata.json").read_text())["status"] == "failed"


def broken(render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
    class Broken(gymnasium.Wrapper[Any, Any, Any, Any]):
        steps = 0

        def step(self, action: Any) -> Any:
            self.steps += 1
            if self.steps > 40:
                raise OSError("the robot fell over")
            return super().step(action)

    return Broken(gymnasium.make("CartPole-v1"))


def test_a_failing_environment_names_the_file(tmp_path: Path) -> None:
    options = {**QUICK, "env_options": {"vectorization": "sync"}}
    with pytest.raises(RunError, match=r"failed in step: OSError: the robot fell over") as caught:
        rltrain.train("ppo", broken, run_dir=tmp_path, **options)
    path = run_in(tmp_path) / "traceback.txt"
    assert re.fullmatch(r"Mend line \d+ of test_failure\.py; (.*)", caught.value.fix).group(1) == (  # type: ignore[union-attr]
        f"the traceback is in '{path}'."
    )
    assert "in step" in path.read_text()


def test_the_command_line_says_what_was_being_done_and_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_tracker.py").write_text(
        "from rltrain import TensorEnv, make_env\n"
        "from rltrain.registry import env_class\n"
        "class Fragile(env_class('rltrain/CartPole-v1')):\n"
        "    calls = 0\n"
        "    def info(self, state):\n"
        "        type(self).calls += 1\n"
        "        if self.calls > 40: raise LookupError('no such memory')\n"
        "        return {}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = "train ppo my_tracker:Fragile --num-envs 2 --agent.n-steps 16 --agent.batch-size 32 --no-progress"
    assert main(shlex.split(words)) == 3
    cause, fix = capsys.readouterr().err.splitlines()[-2:]
    assert cause == "error: LookupError: no such memory, while training, after 64 steps."
    assert fix == "  fix: The traceback is in 'runs/Fragile/ppo_1/traceback.txt'."
    assert "in info" in Path("runs/Fragile/ppo_1/traceback.txt").read_text()


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (MemoryError(), "Use fewer --num-envs"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
            "--num-envs",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "--num-envs"),
        (RuntimeError("the memory bank of the robot is locked"), "--debug"),
        (RuntimeError("shared memory segment has another owner"), "--debug"),
        (ValueError("x"), "--debug"),
        (KeyError("memory"), "--debug"),
    ],
    ids=repr,
)
def test_fewer_environments_are_advised_only_where_memory_ran_out(
    error: Exception, fix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise error

    monkeypatch.setitem(verbs, "fail", VerbSpec("fail", fail))  # type: ignore[arg-type]
    assert main(["fail"]) == 3
    told = capsys.readouterr().err
    assert fix in told
    assert ("--num-envs" in told) == ("--num-envs" in fix)


def test_an_error_that_explains_itself_leaves_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        rltrain.train("ppo", "rltrain/CartPole-v1", run_dir=tmp_path, **{**QUICK, "trackers": ["no-such"]})
    assert not [*tmp_path.rglob("traceback.txt")]
