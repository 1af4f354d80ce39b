"""Runs with ``--compile`` and ``--bfloat16``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import rltrain
from rltrain import compile as compiled
from rltrain.cli import main
from rltrain.compile import check_compiler
from rltrain.errors import ConfigError
from rltrain.runs.checkpoint import load_policy
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints
from rltrain.training.metrics import Fetch

OPTIONS: dict[str, Any] = {
    "total_timesteps": 192,
    "num_envs": 8,
    "num_threads": 1,
    "save_freq": 64,
    "n_eval_episodes": 2,
    "agent": {"n_steps": 8, "batch_size": 32, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}},
}


def train(folder: Path, env: str = "rltrain/CartPole-v1", algo: str = "ppo", **options: Any) -> Path:
    return rltrain.train(algo, env, progress=False, run_dir=folder, **{**OPTIONS, **options}).run_dir


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch captures, run as it is: no compiler is needed, and little time."""
    for place in ("rltrain.agent", "rltrain.vec"):
        monkeypatch.setattr(f"{place}.fused", lambda function, **_: compiled.fused(function, backend="eager"))
    monkeypatch.setattr("rltrain.training.setup.check_compiler", lambda _: None)


def test_a_compiled_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    try:
        check_compiler(torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(error.cause)
    run = train(tmp_path / "whole", compile=True)
    first, *_, last = list_checkpoints(run / "checkpoints")
    torch.compiler.reset()
    shutil.copytree(run, tmp_path / "again")
    again = rltrain.resume(tmp_path / "again" / "checkpoints" / first.name, progress=False).run_dir
    torch.compiler.reset()
    expected, policy = load_policy(last), load_policy(again / "checkpoints" / last.name)
    assert all(torch.equal(policy[name], tensor) for name, tensor in expected.items())


@pytest.mark.usefixtures("captured")
def test_the_mode_is_recorded_and_time_to_compile_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--total-timesteps 128 --num-envs 8 --agent.n-steps 8 --agent.batch-size 32 --n-eval-episodes 0"
    command = f"train ppo rltrain/CartPole-v1 --compile {options} --run-dir {tmp_path}".split()
    assert main(command) == 0
    assert "s of them compiling)" in capsys.readouterr().out
    run = RunFolder(tmp_path / "rltrain-CartPole-v1" / "ppo_1")
    metadata = run.metadata()
    assert metadata["mode"]["compile"] is True
    assert 0 < metadata["compile_seconds"] < metadata["seconds"]
    run.update_metadata({"mode": {**metadata["mode"], "compile": False}})
    with pytest.warns(UserWarning, match="Not bit for bit"):
        rltrain.resume(run.path, total_timesteps=256, progress=False)
    torch.compiler.reset()


@pytest.mark.usefixtures("captured")
def test_of_other_environments_the_agent_alone_is_compiled(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Only the agent is compiled"):
        train(tmp_path, "CartPole-v1", compile=True, env_options={"vectorization": "sync"})
    torch.compiler.reset()


@pytest.mark.parametrize("option", ["compile", "bfloat16"])
def test_a_loop_that_is_not_ours_stays_as_it_is(tmp_path: Path, option: str) -> None:
    pytest.importorskip("stable_baselines3")
    agent = {"n_steps": 8, "batch_size": 32}
    with pytest.raises(ConfigError, match=f"loop of its own, which --{option}"):
        train(tmp_path, algo="sb3/ppo", agent=agent, **{option: True})
    assert not list(tmp_path.iterdir())


def test_no_compiler_is_told_before_anything_is_made(tmp_path: Path) -> None:
    from torch._inductor import config

    none = config.patch({"cpp.cxx": ("no-such-compiler",)})
    with none, pytest.raises(ConfigError, match=r"no C\+\+ compiler"):
        train(tmp_path, compile=True)
    assert not list(tmp_path.iterdir())


def test_a_run_in_bfloat16_says_so(tmp_path: Path) -> None:
    run = train(tmp_path, bfloat16=True)
    assert json.loads((run / "metadata.json").read_text())["mode"]["bfloat16"] is True


def test_metrics_that_come_late_are_told_under_their_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: what was fetched at a log point is handed over at the next one."""
    monkeypatch.setattr("rltrain.training.state.answers_late", lambda device: True)
    at_once = (train(tmp_path / "late") / "progress.csv").read_text().splitlines()
    monkeypatch.undo()
    late = (train(tmp_path / "now") / "progress.csv").read_text().splitlines()
    assert len(late) == len(at_once) > 3
    timeless = [[cell for cell in line.split(",") if cell.isdigit()] for line in late]
    assert timeless == [[cell for cell in line.split(",") if cell.isdigit()] for line in at_once]
    assert Fetch({"train/a": torch.ones(()), "train/n_updates": 3}).values() == {"train/a": 1.0, "train/n_updates": 3.0}
