"""Azure ML: a command job, as ``az ml job create --file`` takes it."""

from __future__ import annotations

import shlex
import shutil
from typing import Any

from rltrain.cloud.job import Job, job_file
from rltrain.errors import ConfigError

FILE = "{name}_azureml.yaml"
SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"
STORE = "azureml://datastores/workspaceblobstore/paths/"


def make(job: Job) -> str:
    """The job.

    Raises:
        ConfigError: The job lacks something.
    """
    job.need("image", platform="azureml")
    cluster = job.more.get("compute")
    if (cluster is None) == (job.instance is None):
        raise ConfigError(
            "A job of azureml needs either --instance or --compute.", "Give a size of machine, or a cluster of yours."
        )
    if job.spot and cluster is not None:
        raise ConfigError(
            "Whether machines of a cluster may be taken away is a property of the cluster.",
            "Leave --spot out, or give --instance in place of --compute.",
        )
    for word in job.arguments:
        if "${{" in word:
            raise ConfigError(f"'{word}' holds '${{{{', which Azure ML replaces.", "Leave it out.")
    options = ["--runs=${{outputs.runs}}", "--model=${{outputs.model}}"]
    inputs = {}
    if job.data is not None:
        options.append("--data=${{inputs.data}}")
        inputs["data"] = {"type": "uri_folder", "path": job.data, "mode": "ro_mount"}
    words = job.entry("azureml", *options)
    spec: dict[str, Any] = {
        "$schema": SCHEMA,
        "type": "command",
        "display_name": job.name,
        "experiment_name": "rltrain",
        "command": " ".join(word if "${{" in word else shlex.quote(word) for word in words),
        "environment": {"image": job.image},
        "resources": {"instance_count": job.nodes},
        "outputs": {
            "runs": {"type": "uri_folder", "path": job.checkpoints or f"{STORE}{job.name}/runs", "mode": "rw_mount"},
            "model": {"type": "uri_folder", "path": job.output or f"{STORE}{job.name}/model", "mode": "rw_mount"},
        },
        "limits": {"timeout": job.max_seconds},
    }
    if inputs:
        spec["inputs"] = inputs
    if job.nodes > 1:  # a process a machine, which starts the ranks there
        spec["distribution"] = {"type": "pytorch", "process_count_per_instance": 1}
    if cluster is not None:
        spec["compute"] = f"azureml:{cluster}"
    else:
        spec["resources"]["instance_type"] = job.instance
        spec["queue_settings"] = {"job_tier": "spot" if job.spot else "standard"}
    return job_file("A command job of Azure ML", command(FILE.format(name=job.name), job), spec)


def command(path: str, job: Job) -> list[str]:
    """What starts the job."""
    words = ["az", "ml", "job", "create", "--file", path]
    for name in ("resource_group", "workspace"):
        words += [f"--{name.replace('_', '-')}", job.more[name]] if name in job.more else []
    return words


def submit_with(job: Job) -> str | None:
    """The program that starts jobs; None where it is missing."""
    return shutil.which("az")


MISSING = "There is no command 'az' here.", "Install the Azure CLI with its extension ml, and log in."
