"""The platforms' own libraries read our job files, and refuse a field misspelt: run by ``make test-clouds``."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from test_jobs import MACHINE, RUN, job_file

HERE = Path(__file__).parent / "validators"
VENVS = Path(os.environ.get("RLTRAIN_CLOUD_VENVS", ".venv-clouds"))
ALL = {
    "sagemaker": [
        [],
        ["--spot", "--data", "s3://b/d"],
        [
            "--nodes",
            "2",
            "--ranks",
            "2",
            "--file-system",
            "fs-0123456789:/share",
            "--subnets",
            "subnet-1,subnet-2",
            "--security-groups",
            "sg-1",
        ],
    ],
    "vertex": [
        [],
        ["--gpus", "2", "--gpu", "NVIDIA_L4", "--spot", "--data", "gs://b/d"],
        ["--nodes", "2", "--file-system", "10.0.0.2:/runs", "--network", "projects/1/global/networks/n"],
    ],
    "azureml": [[], ["--spot", "--data", "azureml://datastores/d/paths/x"], ["--nodes", "2"]],
    "skypilot": [
        [],
        ["--gpus", "1", "--gpu", "A100", "--spot", "--data", "s3://b/d"],
        ["--nodes", "2", "--file-system", "my-volume"],
    ],
}
MISSPELT = {
    "sagemaker": [("instance_count", "instance_cuont"), ("max_runtime_in_seconds", "max_runtime_in_second")],
    "vertex": [("replicaCount", "replicaCuont"), ("imageUri", "imageUrl"), ("timeout", "timeuot")],
    "azureml": [("experiment_name", "experiment_nam"), ("instance_count", "instance_cuont"), ("mode:", "mod:")],
    "skypilot": [("num_nodes", "num_node"), ("infra", "infar"), ("image_id", "image_ids")],
}


def read(platform: str, path: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Lets a platform's library read a file."""
    python = VENVS.absolute() / platform / "bin" / "python"
    if not python.exists():
        pytest.skip(f"the library of {platform} is tried by 'make test-clouds'")
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = [python, HERE / f"read_{platform}.py", path]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=home, timeout=300)


@pytest.mark.parametrize("platform", ALL)
@pytest.mark.parametrize("number", range(3))
def test_the_platform_reads_it(platform: str, number: int, tmp_path: Path) -> None:
    machine = MACHINE if platform != "skypilot" else ["--image", "registry/rltrain:1"]
    done = read(platform, job_file(tmp_path, platform, *ALL[platform][number], run=RUN, machine=machine), tmp_path)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["ok"]), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("platform", "right", "wrong"), [(name, *words) for name, pairs in MISSPELT.items() for words in pairs]
)
def test_the_platform_refuses_a_field_misspelt(platform: str, right: str, wrong: str, tmp_path: Path) -> None:
    machine = MACHINE if platform != "skypilot" else ["--image", "registry/rltrain:1"]
    path = job_file(tmp_path, platform, machine=machine)
    text = path.read_text()
    assert re.search(rf"\b{right}", text)
    path.write_text(re.sub(rf"\b{right}", wrong, text, count=1))
    done = read(platform, path, tmp_path)
    assert done.returncode != 0
    assert wrong.rstrip(":") in done.stdout + done.stderr
