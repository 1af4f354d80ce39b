"""The JSON beside an exported policy: what it is, where it came from, and the checksum of its file."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gymnasium import spaces

from rltrain.errors import CheckpointError
from rltrain.export.signature import Signature
from rltrain.runs.folder import RunFolder
from rltrain.runs.lineage import lineage_facts
from rltrain.runs.policy import CHANGING, Policy
from rltrain.spaces import from_json, to_json
from rltrain.storage.digests import entry_of, unreadable_in_time
from rltrain.storage.files import Damaged, read_bytes, reason, write_atomically
from rltrain.storage.records import read_record, sealed

FORMAT = 1
LARGEST = 2**31
"""Bytes of an exported file that is read."""


@dataclass(frozen=True)
class Description:
    """What the JSON beside an exported policy says.

    Attributes:
        kind: The format, as after ``--to``.
        signature: Inputs and outputs.
        observation_space: The environment's own space of an observation.
        action_space: The environment's own space of an action.
        facts: All of it as plain data: also ``lineage``, ``versions``, ``bytes``, ``sha256``, and ``opset`` of ONNX.
    """

    kind: str
    signature: Signature
    observation_space: spaces.Space
    action_space: spaces.Space
    facts: Mapping[str, Any]


def path_of(file: Path) -> Path:
    """Where the description of an exported file is: its name with ``.json`` behind it."""
    return file.with_name(f"{file.name}.json")


def write_description(file: Path, kind: str, policy: Policy, signature: Signature, facts: Mapping[str, Any]) -> None:
    """Writes the description of a file that was just written.

    Args:
        file: The exported policy.
        kind: Its format.
        policy: The policy that is in it.
        signature: Its inputs and outputs.
        facts: What else there is to say: ``lineage``, ``versions`` and what the format adds.

    Raises:
        OSError: It cannot be written, or the file cannot be read.
    """
    env = policy.config.env
    options = {name: getattr(env, name) for name in CHANGING if getattr(env, name) not in (None, False, 1)}
    data = {
        "format": FORMAT,
        "kind": kind,
        "file": file.name,
        **entry_of(file),
        "env": env.id,
        "env_options": {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()},
        "action": "the most likely one",
        **signature.to_json(),
        "observation_space": to_json(policy.translation.observation_space),
        "action_space": to_json(policy.translation.action_space),
        **facts,
    }
    write_atomically(path_of(file), sealed(data))


def lineage_of(policy: Policy, folder: RunFolder) -> dict[str, Any]:
    """Where a policy came from: run, step, seed, commit, data, and the checksum of its parameters in the checkpoint."""
    metadata = folder.metadata()
    return {
        "run": "/".join(folder.path.absolute().parts[-2:]),
        "algo": policy.config.algo,
        "step": policy.step,
        "seed": policy.config.seed,
        "policy_sha256": policy.digest,
        "git_commit": metadata.get("git_commit"),
        **lineage_facts(metadata),
        "trained_with": metadata.get("versions", {}),
    }


def versions_of(*packages: str) -> dict[str, str]:
    """The versions of Python, rltrain and packages, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in ("rltrain", "torch", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_description(file: Path) -> Description:
    """The description of an exported policy; :func:`read_verified` reads the file itself.

    Raises:
        CheckpointError: There is none, or it was changed.
    """
    try:
        facts = read_record(path_of(file))
        if facts.get("format") != FORMAT:
            raise Damaged(f"it is of the format {facts.get('format')}, this version reads {FORMAT}")
        found = Description(
            str(facts["kind"]),
            Signature.from_json(facts),
            from_json(facts["observation_space"]),
            from_json(facts["action_space"]),
            facts,
        )
    except (OSError, Damaged, KeyError, TypeError) as error:
        why = reason(error) if isinstance(error, OSError | Damaged) else f"{error} is missing"
        fix = "It is written beside an exported file, and belongs to it: keep the two together."
        raise CheckpointError(f"'{path_of(file)}' cannot be read: {why}.", fix) from error
    return found


def read_verified(file: Path, description: Description) -> bytes:
    """The content of an exported file, compared with the checksum in its description.

    Raises:
        CheckpointError: It was changed, or cannot be read.
    """
    try:
        if (fault := unreadable_in_time(file.parent, [file.name])) is not None:
            raise Damaged(fault)
        content = read_bytes(file, LARGEST)
        if hashlib.sha256(content).hexdigest() != description.facts["sha256"]:
            raise Damaged("its SHA-256 is not the one in the description beside it")
    except (OSError, Damaged) as error:
        raise CheckpointError(f"'{file}' cannot be used: {reason(error)}.", "Export the policy again.") from error
    return content
