"""Vertex AI: the specification of a CustomJob, as ``gcloud ai custom-jobs create --config`` takes it."""

from __future__ import annotations

import shutil
from typing import Any

from rltrain.cloud.job import Job, job_file
from rltrain.errors import ConfigError

FILE = "{name}_vertex.yaml"
SHARED = "/mnt/nfs/runs"
LOCAL = "/tmp/rltrain-runs"


def make(job: Job) -> str:
    """The specification.

    Raises:
        ConfigError: The job lacks something.
    """
    job.need("image", "instance", "output", platform="vertex")
    for name in ("output", "checkpoints", "data"):
        value = getattr(job, name)
        if value is not None and not value.startswith("gs://"):
            raise ConfigError(f"'{value}' is no place for Vertex AI.", "Give gs://BUCKET/PATH.")
    machine: dict[str, Any] = {"machineType": job.instance}
    if job.gpus:
        job.need("gpu", platform="vertex")
        machine |= {"acceleratorType": job.gpu, "acceleratorCount": job.gpus}
    options = [f"--runs={SHARED if job.nodes > 1 else LOCAL}"]
    if job.data is not None:
        options.append(f"--data={job.data}")
    if job.checkpoints is not None:
        options.append(f"--mirror={job.checkpoints}")
    pool: dict[str, Any] = {
        "machineSpec": machine,
        "replicaCount": 1,
        "diskSpec": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 100},
    }
    spec: dict[str, Any] = {}
    if job.nodes > 1:
        job.need("file_system", "network", platform="vertex")
        server, colon, path = str(job.file_system).partition(":")
        if not (colon and server and path.startswith("/")):
            raise ConfigError(f"'{job.file_system}' is no NFS share.", "Give SERVER:/PATH.")
        pool["nfsMounts"] = [{"server": server, "path": path, "mountPoint": "runs"}]
        spec["network"] = job.more["network"]
        options = [option for option in options if not option.startswith("--mirror")]  # the share is kept
    words = job.entry("vertex", *options)
    split = words.index("vertex")
    pool["containerSpec"] = {"imageUri": job.image, "command": words[:split], "args": words[split:]}
    pools = [pool] if job.nodes == 1 else [pool, {**pool, "replicaCount": job.nodes - 1}]
    scheduling: dict[str, Any] = {
        "timeout": f"{job.max_seconds}s",
        "restartJobOnWorkerRestart": True,
    }
    if job.spot:
        scheduling["strategy"] = "SPOT"
    spec = {
        "workerPoolSpecs": pools,
        "scheduling": scheduling,
        "baseOutputDirectory": {"outputUriPrefix": job.output},
        **spec,
    }
    return job_file("A CustomJob of Vertex AI", command(FILE.format(name=job.name), job), spec)


def command(path: str, job: Job) -> list[str]:
    """What starts the job."""
    region = job.more.get("region", "REGION")
    own = f"--region={region}", f"--display-name={job.name}", f"--config={path}"
    return ["gcloud", "ai", "custom-jobs", "create", *own]


def submit_with(job: Job) -> str | None:
    """The program that starts jobs; None where it is missing.

    Raises:
        ConfigError: The job names no region.
    """
    job.need("region", platform="vertex")
    return shutil.which("gcloud")


MISSING = "There is no command 'gcloud' here.", "Install the Google Cloud CLI, and log in."
