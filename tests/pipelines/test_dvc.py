"""The template for DVC runs offline, from episodes to a score; only what changed runs again; a remote has it all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[2] / "docs/pipelines/dvc"
pytestmark = [
    pytest.mark.skipif(find_spec("dvc") is None, reason="the extra dvclive, which brings DVC, is not installed"),
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"),
]
SMALL = ["-S", "record.episodes=20", "-S", "train.total_timesteps=2000", "-S", "eval.episodes=20"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository made of the template, with a remote in another folder."""
    base = tmp_path_factory.mktemp("dvc")
    path = Path(shutil.copytree(TEMPLATE, base / "project"))
    (base / "bin").mkdir()
    (base / "bin/rltrain").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rltrain "$@"\n')
    (base / "bin/rltrain").chmod(0o755)
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "config", "core.analytics", "false"],
        ["dvc", "remote", "add", "-q", "-d", "local", str(base / "remote")],
        ["git", "add", "."],
        ["git", "commit", "-q", "-m", "Begin"],
    ):
        call(path, *command)
    return path


def call(path: Path, *command: str) -> str:
    """The output of a command in the project."""
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    env = {
        **os.environ,
        "PATH": f"{path.parent / 'bin'}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "OMP_NUM_THREADS": "1",
        **{f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    done = subprocess.run(words, cwd=path, env=env, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_template_goes_from_episodes_to_a_score_and_runs_again_what_changed(project: Path) -> None:
    call(project, "dvc", "exp", "run", *SMALL)
    score = json.loads((project / "eval.json").read_text())
    assert score["episodes"] == 20
    assert json.loads((project / "check.json").read_text())["ok"]
    checksum = json.loads((project / "check.json").read_text())
    call(project, "git", "add", ".")
    call(project, "git", "commit", "-q", "-m", "Small")
    assert "Running stage" not in call(project, "dvc", "repro")
    said = call(project, "dvc", "exp", "run", "-S", "train.learning_rate=0.01")
    assert "Running stage 'train'" in said
    assert "Running stage 'eval'" in said
    assert "Running stage 'record'" not in said
    assert json.loads((project / "check.json").read_text()) == checksum
    (run,) = project.glob("runs/*/bc_1/config.yaml")  # DVC has removed the run before
    assert "learning_rate: 0.01" in run.read_text()
    shown = json.loads(call(project, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert shown["eval.json"]["data"]["mean_reward"] == json.loads((project / "eval.json").read_text())["mean_reward"]
    assert "train" in shown["runs/rltrain-FrozenLake-v1/bc_1/dvclive/metrics.json"]["data"]


def test_another_machine_has_it_from_the_remote(project: Path) -> None:
    if not (project / "dvc.lock").exists():
        call(project, "dvc", "exp", "run", *SMALL)
    before = (project / "runs/rltrain-FrozenLake-v1/bc_1/metadata.json").read_bytes()
    call(project, "dvc", "push", "-q")
    shutil.rmtree(project / ".dvc/cache")
    shutil.rmtree(project / "runs")
    shutil.rmtree(project / "episodes")
    call(project, "dvc", "pull", "-q")
    assert (project / "runs/rltrain-FrozenLake-v1/bc_1/metadata.json").read_bytes() == before
    call(project, "rltrain", "data", "check", "episodes")
    call(project, "rltrain", "eval", "runs/rltrain-FrozenLake-v1/bc_1", "--episodes", "5")
