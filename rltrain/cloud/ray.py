"""Ray: a program that hands a job to a cluster, by Ray's own client of jobs."""

from __future__ import annotations

import pprint
import shutil
import sys
from importlib.util import find_spec

from rltrain.cloud.job import Job
from rltrain.errors import ConfigError

FILE = "{name}_ray.py"
NOT_OF_RAY = ("image", "instance", "spot", "checkpoints")

PROGRAM = '''"""A job for a cluster of Ray, written by rltrain. Start it with: python {file}

The cluster is the one that RAY_ADDRESS names, such as http://HEAD:8265, or that of this machine. On a machine of it the
words of ENTRYPOINT can also be run as they are.
"""

import shlex

from ray.job_submission import JobSubmissionClient

ENTRYPOINT = {entrypoint}

if __name__ == "__main__":
    name = JobSubmissionClient().submit_job(entrypoint=shlex.join(ENTRYPOINT), metadata={metadata})
    print(f"follow it with: ray job logs --follow {{name}}")
'''


def make(job: Job) -> str:
    """The program.

    Raises:
        ConfigError: The job lacks something, or says something that Ray has no use for.
    """
    for name in NOT_OF_RAY:
        if getattr(job, name):
            raise ConfigError(f"--{name} is not for ray, whose machines are there already.", "Leave it out.")
    job.need("file_system", platform="ray")
    for name in ("file_system", "data", "output"):
        value = getattr(job, name)
        if value is not None and not value.startswith("/"):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"'{value}' is no folder of every machine.", f"Give {option} a whole path: /shared/...")
    if job.gpu is not None and not job.gpus:
        raise ConfigError(f"--gpu {job.gpu} needs --gpus, the number of them.", "Give both, or leave it out.")
    options = {
        "job": job.name,
        "nodes": job.nodes,
        "ranks": job.ranks,
        "gpus": job.gpus,
        "gpu": job.gpu,
        "seconds": job.max_seconds,
        "runs": f"{job.file_system}/runs",
        "model": job.output or f"{job.file_system}/models/{job.name}",
        "data": job.data,
    }
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    entrypoint = ["python", "-m", "rltrain.cloud.ray_job", *words, "--", *job.arguments]
    text = pprint.pformat(entrypoint, width=100)
    return PROGRAM.format(file=FILE.format(name=job.name), entrypoint=text, metadata={"rltrain": job.name})


def command(path: str, job: Job) -> list[str]:
    """What starts the job."""
    return ["python", path]


def submit_with(job: Job) -> str | None:
    """The program that starts jobs; None where Ray, or its part for jobs, is missing."""
    return sys.executable if find_spec("ray") is not None and shutil.which("ray") and find_spec("aiohttp") else None


MISSING = "Ray with its jobs is not installed.", "Run: pip install 'ray[default]'"
