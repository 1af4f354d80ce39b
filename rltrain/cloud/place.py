"""Where a machine of a platform is: which of how many, under which job, with which folders. Read from its variables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rltrain.cloud.job import from_hyperparameters
from rltrain.errors import ConfigError

HYPERPARAMETERS = "config/hyperparameters.json"


@dataclass(frozen=True)
class Place:
    """Where this process is.

    Attributes:
        job: The name of the job, which is the same after an interruption.
        arguments: The arguments of ``rltrain train``.
        ranks: Ranks on each machine.
        nodes: Machines.
        node: Number of this machine, from 0.
        first: The name of the first machine.
        port: Where the ranks meet there; 0 for any, on a single machine.
        runs: The folder of run folders.
        mirror: Where they are copied to, if they are on a disk that does not stay.
        data: The folder of the dataset.
        model: Where the policy goes.
        failure: The file that says why it failed, if the platform reads one.
    """

    job: str
    arguments: Sequence[str]
    ranks: int
    nodes: int
    node: int
    first: str
    port: int
    runs: Path
    mirror: Path | None = None
    data: Path | None = None
    model: Path | None = None
    failure: Path | None = None


def place_of(platform: str, options: Mapping[str, str], arguments: Sequence[str], env: Mapping[str, str]) -> Place:
    """Reads where this machine is.

    Args:
        platform: ``sagemaker``, ``vertex``, ``azureml``, ``skypilot`` or ``ray``.
        options: What the job file gives the entry point: ``ranks``, ``runs``, ``data``, ``model``, ``mirror``.
        arguments: The arguments of ``rltrain train``; of SageMaker none, where they are hyperparameters.
        env: The variables.

    Raises:
        ConfigError: The platform is unknown, or its variables are not there.
    """
    if platform not in READERS:
        raise ConfigError(f"There is no platform '{platform}'.", f"Known: {', '.join(READERS)}.")
    try:
        found = READERS[platform](list(arguments), env)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, OSError) as error:
        raise ConfigError(
            f"This is no machine of {platform}: {type(error).__name__} {error}.", "Start it by the job file."
        ) from error
    folders = {name: _folder(options[name]) for name in ("runs", "data", "model", "mirror") if options.get(name)}
    ranks = {"ranks": int(options["ranks"])} if "ranks" in options else {}
    place = Place(**{"ranks": 1, **found, **folders, **ranks})
    if not place.arguments:
        raise ConfigError("The job says nothing to train.", "Start it by the job file.")
    return place


def _folder(name: str) -> Path:
    """A path; that of a mounted bucket for ``gs://BUCKET/PATH``."""
    return Path(f"/gcs/{name[5:]}" if name.startswith("gs://") else name).expanduser()


def _sagemaker(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    root = Path(env.get("SM_INPUT_DIR", "/opt/ml/input"))
    given = env.get("SM_HPS") or (root / HYPERPARAMETERS).read_text(encoding="utf-8")
    hosts = sorted(json.loads(env.get("SM_HOSTS", "[]"))) or ["localhost"]
    data = env.get("SM_CHANNEL_TRAINING")
    return {
        "job": env["TRAINING_JOB_NAME"],
        "arguments": from_hyperparameters(_unwrapped(json.loads(given))),
        "ranks": int(env.get("RLTRAIN_RANKS", "1")),
        "nodes": len(hosts),
        "node": hosts.index(env.get("SM_CURRENT_HOST", hosts[0])),
        "first": hosts[0],
        "port": int(env.get("SM_MASTER_PORT", "7777")) if len(hosts) > 1 else 0,
        "runs": Path(env.get("RLTRAIN_RUNS", "/opt/ml/checkpoints")),
        "data": None if data is None else Path(data),
        "model": Path(env.get("SM_MODEL_DIR", "/opt/ml/model")),
        "failure": Path(env.get("SM_OUTPUT_DIR", "/opt/ml/output")) / "failure",
    }


def _unwrapped(values: Any) -> Mapping[str, Any]:
    """Hyperparameters, with those as text that the file has as JSON within JSON."""
    if not isinstance(values, dict):
        raise ValueError("hyperparameters are no mapping")
    return {name: _text_within(value) for name, value in values.items()}


def _text_within(value: Any) -> Any:
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return json.loads(value)
    return value


def _vertex(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    spec = json.loads(env.get("CLUSTER_SPEC", "{}"))
    pools = spec.get("cluster", {})
    hosts = [host for pool in ("workerpool0", "workerpool1") for host in pools.get(pool, [])] or ["localhost:0"]
    task = spec.get("task", {"type": "workerpool0", "index": 0})
    model, mirror = env.get("AIP_MODEL_DIR"), env.get("AIP_CHECKPOINT_DIR")
    name, _, port = hosts[0].partition(":")
    found = {
        "job": env["CLOUD_ML_JOB_ID"],
        "arguments": arguments,
        "nodes": len(hosts),
        "node": int(task["index"]) + (1 if task["type"] == "workerpool1" else 0),
        "first": name,
        "port": int(port or 2222) if len(hosts) > 1 else 0,
        "runs": Path("/tmp/rltrain-runs"),
    }
    if model:
        found["model"] = _folder(model)
    if mirror and len(hosts) == 1:
        found["mirror"] = _folder(mirror)
    return found


def _azureml(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    nodes = int(env.get("WORLD_SIZE", "1"))  # a process a machine
    return {
        "job": env["AZUREML_RUN_ID"],
        "arguments": arguments,
        "nodes": nodes,
        "node": int(env.get("NODE_RANK", env.get("RANK", "0"))),
        "first": env.get("MASTER_ADDR", "localhost"),
        "port": int(env.get("MASTER_PORT", "29500")) if nodes > 1 else 0,
        "runs": Path("runs"),
    }


def _skypilot(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    addresses = env.get("SKYPILOT_NODE_IPS", "localhost").split()
    return {
        "job": env["SKYPILOT_TASK_ID"],
        "arguments": arguments,
        "nodes": len(addresses),
        "node": int(env.get("SKYPILOT_NODE_RANK", "0")),
        "first": addresses[0],
        "port": 29500 if len(addresses) > 1 else 0,
        "runs": Path("runs"),
    }


def _ray(arguments: list[str], env: Mapping[str, str]) -> dict[str, Any]:
    """The variables that ``ray_job`` sets: Ray has none of its own for this."""
    nodes = int(env["RLTRAIN_NODES"])
    return {
        "job": env["RLTRAIN_JOB"],
        "arguments": arguments,
        "nodes": nodes,
        "node": int(env["RLTRAIN_NODE"]),
        "first": env["RLTRAIN_FIRST"],
        "port": int(env["RLTRAIN_PORT"]) if nodes > 1 else 0,
        "runs": Path("runs"),
    }


READERS: dict[str, Callable[[list[str], Mapping[str, str]], dict[str, Any]]] = {
    "sagemaker": _sagemaker,
    "vertex": _vertex,
    "azureml": _azureml,
    "skypilot": _skypilot,
    "ray": _ray,
}
