"""SkyPilot: a task for Lambda, or for any other of its clouds, as ``sky jobs launch`` takes it."""

from __future__ import annotations

import shlex
import shutil
from typing import Any

from rltrain.cloud.job import Job, job_file
from rltrain.errors import ConfigError

FILE = "{name}_sky.yaml"
RUNS, DATA, MODEL = "/runs", "/data", "/model"
RESTARTS = 3


def make(job: Job) -> str:
    """The task.

    Raises:
        ConfigError: The job lacks something.
    """
    infra = job.more.get("infra", "lambda")
    if job.spot and infra.partition("/")[0] == "lambda":
        raise ConfigError("Lambda has no spot machines.", "Leave --spot out, or give another --infra, such as aws.")
    resources: dict[str, Any] = {"infra": infra}
    if job.instance is not None:
        resources["instance_type"] = job.instance
    if job.gpus:
        job.need("gpu", platform="skypilot")
        resources["accelerators"] = f"{job.gpu}:{job.gpus}"
    if job.image is not None:
        resources["image_id"] = f"docker:{job.image}"
    if job.spot:
        resources["use_spot"] = True
    resources["job_recovery"] = {"strategy": "FAILOVER", "max_restarts_on_errors": RESTARTS}
    mounts: dict[str, Any] = {}
    volumes = {}
    if job.nodes > 1:
        job.need("file_system", platform="skypilot")
        volumes[RUNS] = job.file_system
    elif job.checkpoints is not None:
        mounts[RUNS] = {"source": job.checkpoints, "mode": "MOUNT_CACHED"}
    options = [f"--runs={RUNS if mounts or volumes else '~/rltrain-runs'}"]
    if job.data is not None:
        mounts[DATA] = {"source": job.data, "mode": "COPY"}
        options.append(f"--data={DATA}")
    if job.output is not None:
        mounts[MODEL] = {"source": job.output, "mode": "MOUNT_CACHED"}
        options.append(f"--model={MODEL}")
    words = job.entry("skypilot", *options)
    run = " ".join(word if word.endswith("=~/rltrain-runs") else shlex.quote(word) for word in words)
    task: dict[str, Any] = {"name": job.name, "num_nodes": job.nodes, "resources": resources}
    if mounts:
        task["file_mounts"] = mounts
    if volumes:
        task["volumes"] = volumes
    if job.image is None:
        task["setup"] = "pip install rltrain"
    task["run"] = f"timeout {job.max_seconds} {run}"
    return job_file("A task of SkyPilot", command(FILE.format(name=job.name), job), task)


def command(path: str, job: Job) -> list[str]:
    """What starts the job."""
    return ["sky", "jobs", "launch", "--name", job.name, path]


def submit_with(job: Job) -> str | None:
    """The program that starts jobs; None where it is missing."""
    return shutil.which("sky")


MISSING = "There is no command 'sky' here.", "Run: pip install 'skypilot[lambda]', in an environment of its own"
