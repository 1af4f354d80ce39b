"""``rltrain cloud``: writes the file by which a platform trains a run."""

from __future__ import annotations

import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import option_line
from rltrain.cli.output import beside, say
from rltrain.cli.typed_run import TypedRun, typed_run
from rltrain.errors import ConfigError, did_you_mean, plain

if TYPE_CHECKING:
    from rltrain.cloud.job import Job

PLATFORMS = {
    "sagemaker": "Amazon SageMaker: a program for ModelTrainer of version 3 of its SDK",
    "vertex": "Vertex AI: a CustomJob for gcloud",
    "azureml": "Azure ML: a command job for az",
    "skypilot": "SkyPilot: a task for sky jobs launch",
    "lambda": "Lambda, through SkyPilot",
    "ray": "a cluster of Ray: a program that hands it a job",
}
TEXTS = {
    "image": "container image that has rltrain: the repository's Dockerfile makes one",
    "instance": "type of machine, by the platform's name",
    "gpus": "GPUs of each machine [0]",
    "gpu": "their type, where the machine does not say it (vertex, skypilot, ray)",
    "nodes": "machines that train together [1]",
    "ranks": "ranks on each machine [one for each GPU, 1 without]",
    "data": "dataset, where the platform finds it: s3://..., gs://..., azureml://...",
    "checkpoints": "where run folders are kept over interruptions",
    "output": "where the policy goes",
    "file_system": "what several machines share: fs-ID:/PATH, SERVER:/PATH, a volume of SkyPilot, or a folder (ray)",
    "max_hours": "end the job after so many hours [24]",
    "name": "of the job [from the agent and the environment]",
    "out": "file to write [NAME_PLATFORM.py or .yaml]",
    "role": "sagemaker: role of the job",
    "subnets": "sagemaker, several machines: subnets of the file system, with commas",
    "security_groups": "sagemaker, several machines: its security groups",
    "region": "vertex: where it runs",
    "network": "vertex, several machines: network of the file system",
    "compute": "azureml: a cluster, in place of --instance",
    "resource_group": "azureml: for the command",
    "workspace": "azureml: for the command",
    "infra": "skypilot: where, such as aws or kubernetes [lambda]",
}
FLAGS = {
    "spot": "let the platform take machines away and give others: cheaper, and the run goes on",
    "submit": "start the job too, by the platform's own program",
}
MORE = {
    "sagemaker": ("role", "subnets", "security_groups"),
    "vertex": ("region", "network"),
    "azureml": ("compute", "resource_group", "workspace"),
    "skypilot": ("infra",),
    "ray": (),
}
"""Options of a platform alone."""
USAGE = """usage: rltrain cloud PLATFORM ALGO ENV [options]

Writes the file of a training job, and prints the command that starts it. All
options of 'rltrain train' are those of the run. --debug shows a traceback
instead of a line when something fails.

{options}
"""


def main(arguments: list[str]) -> int:
    """Writes a job file."""
    if any(argument in ("-h", "--help") for argument in arguments):
        lines = [beside(f"  {name}", text, 13) for name, text in PLATFORMS.items()] + [""]
        lines += [option_line(f"--{name} TEXT", text) for name, text in TEXTS.items()]
        lines += [option_line(f"--{name}", text) for name, text in FLAGS.items()]
        say(USAGE.format(options="\n".join(lines)).rstrip())
        return 0
    platform = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if platform not in PLATFORMS:
        fix = did_you_mean(str(platform or ""), PLATFORMS, f"Known: {', '.join(PLATFORMS)}.")
        raise ConfigError(f"There is no platform '{platform}'." if platform else "Name a platform.", fix)
    typed = typed_run(f"cloud {platform}", arguments[1:], flags=tuple(FLAGS), texts=tuple(TEXTS))
    if platform == "lambda":
        if typed.own.get("infra"):
            raise ConfigError("--infra is for other clouds than Lambda.", "Write: rltrain cloud skypilot --infra ...")
        platform = "skypilot"
    module = import_module(f"rltrain.cloud.{platform}")
    job = job_of(platform, typed)
    text = module.make(job)
    submit = typed.own.get("submit", False)
    program = module.submit_with(job) if submit else None
    if submit and program is None:
        raise ConfigError(*module.MISSING)
    path = Path(str(typed.own.get("out") or module.FILE.format(name=job.name)))
    write(path, text)
    words = module.command(str(path), job)
    say(plain(f"{'job file':<10}{path}"))
    say(plain(f"{'next':<10}{shlex.join(words)}"))
    if program is None:
        return 0
    return subprocess.run([program, *words[1:]], check=False).returncode


def job_of(platform: str, typed: TypedRun) -> Job:
    """The job that was typed.

    Raises:
        ConfigError: Something does not fit.
    """
    from rltrain.cloud.job import Job, check_name, options_of

    config, own = typed.config, typed.own
    if typed.num_seeds != 1:
        raise ConfigError("A job trains one run, and --num-seeds trains several.", "Leave it out.")
    if config.nproc != 1:
        raise ConfigError("--nproc is for this machine.", "Give --ranks, the ranks on each machine of the job.")
    if ":" in config.env.id:
        raise ConfigError(
            f"'{config.env.id}' is an environment of a module, which the image may not have.",
            "Register it by a package that the image installs; see docs/plugins.md.",
        )
    gpus, nodes = _whole(own, "gpus", 0, 0), _whole(own, "nodes", 1, 1)
    ranks = _whole(own, "ranks", max(1, gpus), 1)
    if config.num_envs % (nodes * ranks):
        raise ConfigError(
            f"num_envs={config.num_envs} cannot be divided equally among {nodes * ranks} ranks.",
            f"Give --num-envs a multiple of {nodes * ranks}.",
        )
    name = own.get("name") or f"{config.algo}-{config.env.id.rpartition('/')[2]}".lower().replace("_", "-")[:41]
    hours = own.get("max_hours", "24")
    try:
        max_hours = float(hours)
    except ValueError:
        max_hours = 0.0
    if not 0 < max_hours <= 24 * 28:
        raise ConfigError(f"--max-hours {hours} is no time of a job.", "Give hours above 0, and 672 at most.")
    options = options_of(config)
    check_options(typed, options)
    texts = ("image", "instance", "gpu", "data", "checkpoints", "output", "file_system")
    more = {key: str(own[key]) for keys in MORE.values() for key in keys if own.get(key) is not None}
    if wrong := [key for key in more if key not in MORE[platform]]:
        raise ConfigError(f"--{wrong[0].replace('_', '-')} is not for {platform}.", "Leave it out.")
    return Job(
        algo=config.algo,
        env=config.env.id,
        options=options,
        name=check_name(str(name)),
        gpus=gpus,
        nodes=nodes,
        ranks=ranks,
        spot=bool(own.get("spot", False)),
        max_hours=max_hours,
        more=more,
        **{key: own.get(key) for key in texts},
    )


def check_options(typed: TypedRun, options: dict[str, str]) -> None:
    """Checks that the options of a job read back as the run that was typed.

    Raises:
        ConfigError: They do not.
    """
    from rltrain.cloud.job import LEFT_OUT, flat

    config = typed.config
    words = [config.algo, config.env.id, *(f"--{name}={text}" for name, text in options.items())]
    again: dict[str, Any] = dict(flat(typed_run("train", words).config.model_dump(mode="json")))
    for name, value in flat(config.model_dump(mode="json")):
        if name not in LEFT_OUT and again.get(name) != value:
            raise ConfigError(f"{name}={value!r} cannot be given to a job.", "Leave it out.")


def _whole(own: dict[str, Any], name: str, default: int, least: int) -> int:
    text = str(own.get(name, default))
    if not text.isdecimal() or not least <= int(text) <= 4096:
        raise ConfigError(f"--{name} {text} is no number of {name}.", f"Give a whole number from {least} to 4096.")
    return int(text)


def write(path: Path, text: str) -> None:
    """Writes the file, in place of one that is there.

    Raises:
        ConfigError: It cannot be written.
    """
    from rltrain.storage.files import reason, write_atomically

    try:
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {reason(error)}.", "Give another --out.") from error
