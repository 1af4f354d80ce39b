"""``--trackers mlflow`` in a job of Azure ML, by Microsoft's plugin for MLflow: run by ``make test-clouds``.

The plugin wants older versions of MLflow than constraints.txt has, so it is in a virtual environment of its own.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from test_validators import HERE, VENVS


def test_metrics_go_to_the_run_of_the_job(tmp_path: Path) -> None:
    python = VENVS.absolute() / "azureml-mlflow" / "bin" / "python"
    if not python.exists():
        pytest.skip("MLflow of Azure ML is tried by 'make test-clouds'")
    known = tmp_path / "site" / "rltrain-0.dist-info" / "METADATA"  # rltrain itself is not installed there
    known.parent.mkdir(parents=True)
    known.write_text("Metadata-Version: 2.1\nName: rltrain\nVersion: 0\n")
    path = os.pathsep.join((str(Path(__file__).parents[2]), str(tmp_path / "site")))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": path}
    command = [python, HERE / "log_to_azureml.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    sent = [line for line in done.stdout.splitlines() if line.startswith("POST")]
    assert all('"run_id": "job_1"' in line for line in sent)
    assert any("runs/log-batch" in line and "agent.gamma" in line for line in sent)
    assert any("runs/log-batch" in line and "rollout/ep_rew_mean" in line and '"step": 10' in line for line in sent)
    assert not any("runs/update" in line or "runs/create" in line for line in sent)  # the job is the platform's
