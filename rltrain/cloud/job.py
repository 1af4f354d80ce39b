"""A training job for a platform: what is to be trained, and what on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.settings import build_config

LEFT_OUT = ("algo", "env.id", "run_dir", "fallback_dir", "nproc", "data")
"""Settings that the job itself says, or that are of this machine."""
LISTS = ("trackers", "log_info", "reset", "freeze")
DOT = "__"
"""Stands for a dot in names that must be those of variables."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")
HERE = ("init_from", "teacher", "reward_model")
"""Settings that name a folder of this machine, which no other one has."""


@dataclass(frozen=True)
class Job:
    """A training job.

    Attributes:
        algo: The agent.
        env: The environment's id.
        options: The settings of the run by dotted name, as they are typed, as far as they differ from those that the
            environment starts from.
        name: What the job is called.
        image: The container image.
        instance: The type of machine.
        gpus: GPUs of each machine.
        gpu: Their type.
        nodes: Machines.
        ranks: Ranks on each machine.
        data: Where the platform finds the dataset.
        checkpoints: Where the platform keeps run folders, so that a run goes on after an interruption.
        output: Where the policy goes.
        file_system: What all machines share, if there are several.
        spot: Whether machines may be taken away.
        max_hours: After how many hours the platform ends it.
        more: Options of a platform alone.
    """

    algo: str
    env: str
    options: Mapping[str, str]
    name: str
    image: str | None = None
    instance: str | None = None
    gpus: int = 0
    gpu: str | None = None
    nodes: int = 1
    ranks: int = 1
    data: str | None = None
    checkpoints: str | None = None
    output: str | None = None
    file_system: str | None = None
    spot: bool = False
    max_hours: float = 24.0
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """The arguments of ``rltrain train``."""
        return [self.algo, self.env, *(f"--{name}={text}" for name, text in self.options.items())]

    @property
    def max_seconds(self) -> int:
        """After how many seconds the platform ends it."""
        return round(self.max_hours * 3600)

    def entry(self, platform: str, *options: str) -> list[str]:
        """The command of every machine: the entry point, and the arguments behind ``--``."""
        command = ["python", "-m", "rltrain.cloud.entry", platform, f"--ranks={self.ranks}", *options]
        return [*command, "--", *self.arguments]

    def need(self, *names: str, platform: str) -> None:
        """Refuses a job that lacks what a platform needs.

        Raises:
            ConfigError: It does.
        """
        for name in names:
            if getattr(self, name, self.more.get(name)) is None:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"A job of {platform} needs {option}.", f"See 'rltrain cloud {platform} --help'.")


class _Dumper(yaml.SafeDumper):
    """Writes equal parts out, rather than as references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def job_file(what: str, command: Sequence[str], spec: Mapping[str, Any]) -> str:
    """A job file in YAML, with the command that starts it above.

    Args:
        what: What the platform calls such a job.
        command: What starts it.
        spec: The job.
    """
    body = yaml.dump(spec, Dumper=_Dumper, sort_keys=False, width=10_000)
    return f"# {what}, written by rltrain. Start it with:\n# {' '.join(command)}\n{body}"


def options_of(config: TrainConfig) -> dict[str, str]:
    """The settings of a run as options, as far as they differ from what its environment starts from.

    Raises:
        ConfigError: One names something on this machine.
    """
    start, _ = build_config(config.algo, config.env.id)
    before, now = (dict(flat(each.model_dump(mode="json"))) for each in (start, config))
    named = [name for name in HERE if getattr(config, name) is not None]
    if named:
        raise ConfigError(
            f"--{named[0].replace('_', '-')} names a folder of this machine, which the job's machines do not have.",
            "Leave it out; or put the folder into the image, and the option into the job file.",
        )
    return {
        name: as_typed(name, value)
        for name, value in now.items()
        if name not in LEFT_OUT and (name not in before or before[name] != value)
    }


def as_typed(name: str, value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None:
        return "none"
    if name in LISTS:
        return " ".join(value) or "[]"
    if isinstance(value, str):
        return value
    return json.dumps(value)


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted name."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def as_hyperparameters(job: Job) -> dict[str, str]:
    """The run as hyperparameters, whose names are those of variables: ``agent__learning_rate``."""
    found = {name.replace(".", DOT): text for name, text in job.options.items()}
    return {"algo": job.algo, "env": job.env, **found}


def from_hyperparameters(values: Mapping[str, Any]) -> list[str]:
    """The arguments of ``rltrain train``, from what :func:`as_hyperparameters` returned.

    Values may have become numbers, lists or nothing on the way.

    Raises:
        ConfigError: They name no run.
    """
    rest = {str(name): value for name, value in values.items()}
    if "algo" not in rest or "env" not in rest:
        raise ConfigError("The hyperparameters name no agent and environment.", "Give 'algo' and 'env'.")
    first = [str(rest.pop("algo")), str(rest.pop("env"))]
    own = ((name, value) for name, value in rest.items() if not name.startswith(("sagemaker_", "_")))
    return [*first, *(f"--{name.replace(DOT, '.')}={as_typed('', value)}" for name, value in own)]


def check_name(name: str) -> str:
    """A name that every platform takes.

    Raises:
        ConfigError: It is none.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is no name of a job.", "Give small letters, digits and '-', 41 at most.")
    return name
