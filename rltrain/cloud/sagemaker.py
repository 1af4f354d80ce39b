"""SageMaker: a program for ``ModelTrainer`` of version 3 of its SDK."""

from __future__ import annotations

import pprint
import sys
from importlib.util import find_spec

from rltrain.cloud.job import Job, as_hyperparameters
from rltrain.errors import ConfigError

FILE = "{name}_sagemaker.py"
CHECKPOINTS = "/opt/ml/checkpoints"
SHARED = "/opt/ml/input/data/runs"

PROGRAM = '''"""A training job of SageMaker, written by rltrain. Start it with: python {file}"""

from sagemaker.core.training.configs import (
    CheckpointConfig,
    Compute,
    FileSystemDataSource,
    InputData,
    Networking,
    OutputDataConfig,
    SourceCode,
    StoppingCondition,
)
from sagemaker.train import ModelTrainer


def trainer(session=None):
    """The trainer; its session is that of your AWS credentials, unless another is given."""
    return ModelTrainer(
        sagemaker_session=session,
{arguments}
    )


if __name__ == "__main__":
    trainer().train(wait=False)
'''


def make(job: Job) -> str:
    """The program.

    Raises:
        ConfigError: The job lacks something.
    """
    job.need("image", "instance", "role", "checkpoints", "output", platform="sagemaker")
    stop = {"max_runtime_in_seconds": job.max_seconds}
    if job.spot:
        stop["max_wait_time_in_seconds"] = 2 * job.max_seconds  # the wait for a machine included
    inputs = [call("InputData", channel_name="training", data_source=job.data)] if job.data is not None else []
    environment = {"RLTRAIN_RUNS": CHECKPOINTS, "RLTRAIN_RANKS": str(job.ranks)}
    networking = None
    if job.nodes > 1:
        job.need("file_system", "subnets", "security_groups", platform="sagemaker")
        source = _file_system(str(job.file_system))
        inputs.append(call("InputData", channel_name="runs", data_source=source))
        environment["RLTRAIN_RUNS"] = SHARED
        networking = call(
            "Networking",
            subnets=job.more["subnets"].split(","),
            security_group_ids=job.more["security_groups"].split(","),
        )
    fields = {
        "training_image": job.image,
        "role": job.more["role"],
        "base_job_name": job.name,
        # exec, so that the signal before a machine is taken away reaches the run, which saves
        "source_code": call("SourceCode", command="exec python -m rltrain.cloud.entry sagemaker"),
        "compute": call(
            "Compute",
            instance_type=job.instance,
            instance_count=job.nodes,
            enable_managed_spot_training=job.spot,
        ),
        "stopping_condition": call("StoppingCondition", **stop),
        "checkpoint_config": call("CheckpointConfig", s3_uri=job.checkpoints, local_path=CHECKPOINTS),
        "output_data_config": call("OutputDataConfig", s3_output_path=job.output),
        "input_data_config": Code(f"[{', '.join(inputs)}]"),
        "hyperparameters": as_hyperparameters(job),
        "environment": environment,
    }
    if networking is not None:
        fields["networking"] = networking
    lines = []
    for name, value in fields.items():
        text = value if isinstance(value, Code) else pprint.pformat(value, sort_dicts=False)
        lines.append(f"        {name}={text},".replace("\n", "\n        "))
    return PROGRAM.format(file=FILE.format(name=job.name), arguments="\n".join(lines))


class Code(str):
    """Text that stands in the program as it is."""


def call(name: str, **arguments: object) -> Code:
    """A call in the program, its arguments as literals."""
    texts = (f"{key}={value if isinstance(value, Code) else repr(value)}" for key, value in arguments.items())
    return Code(f"{name}({', '.join(texts)})")


def _file_system(given: str) -> Code:
    """``fs-0123:/path``: FSx for Lustre, or EFS where it says ``efs:fs-0123:/path``.

    Raises:
        ConfigError: It says neither.
    """
    kind, rest = ("EFS", given[4:]) if given.startswith("efs:") else ("FSxLustre", given)
    identifier, colon, path = rest.partition(":")
    if not (colon and identifier.startswith("fs-") and path.startswith("/")):
        raise ConfigError(f"'{given}' is no file system.", "Give fs-0123:/path (FSx for Lustre), or efs:fs-0123:/path.")
    return call(
        "FileSystemDataSource",
        file_system_id=identifier,
        file_system_access_mode="rw",
        file_system_type=kind,
        directory_path=path,
    )


def command(path: str, job: Job) -> list[str]:
    """What starts the job."""
    return ["python", path]


def submit_with(job: Job) -> str | None:
    """The program that starts jobs; None where the SDK is missing."""
    return sys.executable if find_spec("sagemaker") is not None and _has_trainer() else None


def _has_trainer() -> bool:
    try:
        return find_spec("sagemaker.train") is not None
    except ImportError:
        return False


MISSING = "The SDK of SageMaker, version 3, is not installed.", "Run: pip install 'sagemaker>=3'"
