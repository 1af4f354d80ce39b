"""What is served: the policy of a run, or an exported one, behind one interface of NumPy arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import spaces

from rltrain.errors import ConfigError
from rltrain.export.description import path_of, read_description, read_verified
from rltrain.export.signature import Signature
from rltrain.runs.layout import VERSION
from rltrain.storage.files import Damaged, exists
from rltrain.storage.records import read_record

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Served:
    """A policy that answers.

    Attributes:
        run: From inputs by name, N rows of each, to outputs by name; called by one thread at a time.
        signature: These inputs and outputs.
        observation_space: The environment's own space of an observation.
        action_space: The environment's own space of an action.
        version: What it is, in a few letters, for a header of every answer.
        env: The environment that it was trained in.
    """

    run: Run
    signature: Signature
    observation_space: spaces.Space
    action_space: spaces.Space
    version: str
    env: str


def open_model(model: str | Path, *, checkpoint: str = "latest") -> Served:
    """The policy of a run folder, of a checkpoint in it, or of an exported ``.onnx`` file with its description.

    Raises:
        CheckpointError: It is not there, was changed, or cannot be read.
        ConfigError: It is another kind of file, or needs a library that is not installed.
    """
    path = Path(model)
    if path.suffix == ".onnx" or exists(path_of(path)):
        if checkpoint != "latest":
            raise ConfigError(f"'{path}' is an exported file: it has no checkpoints.", "Leave --checkpoint out.")
        return _exported(path)
    return _of_run(path, checkpoint)


def _exported(path: Path) -> Served:
    description = read_description(path)
    if description.kind != "onnx":
        fix = "Export the run by --to onnx, or serve the run folder itself."
        raise ConfigError(f"'{path}' is an export to {description.kind}, which is not served.", fix)
    from rltrain.export.onnx_file import OnnxModel

    model = OnnxModel(read_verified(path, description), description.signature)
    facts = description.facts
    return Served(
        model.run,
        description.signature,
        description.observation_space,
        description.action_space,
        f"onnx-{facts['sha256'][:12]}",
        str(facts.get("env", "")),
    )


def _of_run(path: Path, checkpoint: str) -> Served:
    import torch

    from rltrain.export.whole_policy import WholePolicy
    from rltrain.runs.policy import load

    policy = load(path, checkpoint=checkpoint)
    module = WholePolicy(policy)
    names = [array.name for array in module.signature.outputs]

    def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            outputs = module(*(torch.from_numpy(inputs[array.name]) for array in module.signature.inputs))
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    own = policy.translation
    version = _registered(path) or f"{policy.config.algo.replace('/', '-')}-{policy.step}"
    return Served(run, module.signature, own.observation_space, own.action_space, version, policy.config.env.id)


def _registered(path: Path) -> str | None:
    """The name of a version in a registry, if its folder is one of them: ``cartpole-v3``."""
    try:
        facts = read_record(path / VERSION) if exists(path / VERSION) else {}
    except (OSError, Damaged):
        return None
    name, number = facts.get("name"), facts.get("version")
    known = isinstance(name, str) and re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII) and type(number) is int
    return f"{name}-v{number}" if known else None
