"""The commands in the files for clusters are valid for torchrun and rltrain."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml
from torch.distributed.run import parse_args

from rltrain.cli.options import parse_overrides
from rltrain.settings import build_config

CLUSTER = Path(__file__).parents[2] / "rltrain" / "distributed" / "cluster"


def hold(words: list[str]) -> tuple[str, str]:
    """Holds a command line to both parsers; the place to meet and the name of the job."""
    assert words[0] == "torchrun"
    launch = parse_args(words[1:])
    assert launch.module
    assert launch.training_script == "rltrain"
    assert launch.rdzv_backend == "c10d"
    assert int(launch.max_restarts) > 0
    verb, *rest = launch.training_script_args
    assert verb == "train"
    (algo, env), options = parse_overrides(rest, flags=("no_progress",))
    assert options.pop("no_progress")
    config, _ = build_config(algo, env, options)
    assert config.num_envs % (int(launch.nnodes) * int(launch.nproc_per_node)) == 0
    return launch.rdzv_endpoint, launch.rdzv_id


def test_slurm(tmp_path: Path) -> None:
    for name, text in (("scontrol", "echo one; echo two"), ("srun", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    known = {"SLURM_JOB_NODELIST": "x", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_ID": "7"}
    env = {**os.environ, **known, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["bash", str(CLUSTER / "slurm.sbatch"), "ppo", "rltrain/CartPole-v1", "--num-envs", "4096"]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert hold(done.stdout.splitlines()) == ("one:29500", "slurm-7")


def test_kubernetes() -> None:
    service, claim, job = yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    host = f"{job['metadata']['name']}-0.{service['metadata']['name']}:29500"
    assert hold([*container["command"], *container["args"]]) == (host, "$(JOB_ID)")
    assert [each["name"] for each in container["env"]] == ["JOB_ID"]
    assert f"--nnodes={job['spec']['completions']}" in container["command"]
    assert job["spec"]["parallelism"] == job["spec"]["completions"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert f"--run-dir={container['volumeMounts'][0]['mountPath']}" in container["args"]
