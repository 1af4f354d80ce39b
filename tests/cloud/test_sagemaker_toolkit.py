"""SageMaker's own training toolkit starts the entry point, as in its containers: run by ``make test-clouds``.

The toolkit reads the files that SageMaker lays down, sets the variables, and starts a script of the user, here one line
that starts the entry point. It is in a virtual environment of its own, and rltrain in that of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_entry import about, take_away, wait_for
from test_validators import VENVS

import rltrain

SCRIPT = '#!/bin/sh\nexec "$RLTRAIN_PYTHON" -m rltrain.cloud.entry sagemaker "$@"\n'
VALUES = {
    "algo": "ppo",
    "env": "rltrain/CartPole-v1",
    "num_envs": 4,
    "save_freq": 256,
    "keep_checkpoints": 100,
    "n_eval_episodes": 0,
    "trackers": "[]",
    "agent__n_steps": 16,
    "agent__batch_size": 64,
    "agent__n_epochs": 1,
    "agent__learning_rate": "lin_0.001",
}


def lay_down(folder: Path, **more: Any) -> None:
    """The files of a container, as SageMaker lays them down: every hyperparameter is JSON within JSON."""
    config, code = folder / "input" / "config", folder / "code"
    config.mkdir(parents=True)
    code.mkdir()
    (folder / "output").mkdir()
    (code / "run.sh").write_text(SCRIPT)
    own = {"sagemaker_program": "run.sh", "sagemaker_submit_directory": str(code), "sagemaker_job_name": "spot-job-1"}
    values = {name: json.dumps(value) for name, value in {**VALUES, **more, **own}.items()}
    (config / "hyperparameters.json").write_text(json.dumps(values))
    (config / "inputdataconfig.json").write_text("{}")
    hosts = {"current_host": "localhost", "hosts": ["localhost"], "network_interface_name": "lo"}
    (config / "resourceconfig.json").write_text(json.dumps(hosts))


def start(folder: Path) -> subprocess.Popen[str]:
    """The toolkit's ``train``, which is what a container runs."""
    program = VENVS.absolute() / "sagemaker-training" / "bin" / "train"
    if not program.exists():
        pytest.skip("SageMaker's training toolkit is tried by 'make test-clouds'")
    env = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "SAGEMAKER_BASE_DIR": str(folder),
        "TRAINING_JOB_NAME": "spot-job-1",
        "RLTRAIN_RUNS": str(folder / "checkpoints"),
        "RLTRAIN_PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen([program], env=env, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_to_the_end(tmp_path: Path) -> None:
    lay_down(tmp_path, total_timesteps=1024)
    process = start(tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert (tmp_path / "output" / "success").exists()
    action, _ = rltrain.load(tmp_path / "model" / "policy" / "v1").predict([0.0, 0.0, 0.0, 0.0])
    assert action in (0, 1)
    (run,) = [path.parent for path in (tmp_path / "checkpoints").rglob("config.yaml")]
    assert "learning_rate: lin_0.001" in (run / "config.yaml").read_text()


def test_a_job_whose_machine_is_taken_away_goes_on(tmp_path: Path) -> None:
    lay_down(tmp_path, total_timesteps=60_000)
    process = start(tmp_path)
    run = wait_for(tmp_path / "checkpoints", 3, process)
    take_away(process)
    again = start(tmp_path)
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert about(run)["resumed_at"][0] > 0
    assert [path.parent for path in (tmp_path / "checkpoints").rglob("config.yaml")] == [run]


def test_what_fails_is_told(tmp_path: Path) -> None:
    lay_down(tmp_path, total_timesteps=1024, agent__learning_rat=1)
    process = start(tmp_path)
    said, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "learning_rat" in said
    assert (tmp_path / "output" / "failure").exists()
