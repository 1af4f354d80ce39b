"""What is in the folder of a version: files and checksums, lineage and card; and the keys that sign it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import POLICY, cannot_be_read, step_of
from rltrain.runs.lineage import lineage_facts
from rltrain.storage.files import Damaged, read_bytes, reason

SHORTEST_KEY = 16
LINEAGE = {"run": str, "algo": str, "env": str, "step": int, "seed": int, "policy_sha256": str}
"""What the lineage of every version says, and of which type."""


def read_key(path: str | None) -> bytes | None:
    """The key in a file.

    Raises:
        ConfigError: It cannot be read, or is too short.
    """
    if path is None:
        return None
    try:
        key = read_bytes(Path(path), 4096).strip()
    except (OSError, Damaged) as error:
        raise ConfigError(f"'{path}' cannot be read: {reason(error)}.", "Name a file with a key in it.") from error
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"'{path}' holds {len(key)} bytes, no key.", f"Write at least {SHORTEST_KEY}: openssl rand -hex 32"
        )
    return key


def lineage_of(
    run: RunFolder, checkpoint: Path, metadata: Mapping[str, Any], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """Where a version came from."""
    config = run.config()
    return {
        "run": "/".join(run.path.absolute().parts[-2:]),
        "algo": config.algo,
        "env": config.env.id,
        "step": step_of(checkpoint),
        "seed": config.seed,
        "policy_sha256": manifest["files"][POLICY]["sha256"],
        "git_commit": metadata.get("git_commit"),
        **lineage_facts(metadata),
        "versions": metadata.get("versions", {}),
    }


def content_of(path: Path) -> bytes:
    """The content of a file of a run.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return read_bytes(path)
    except (OSError, Damaged) as error:
        raise cannot_be_read(path, error) from error


def broken(path: Path, error: Exception) -> CheckpointError:
    """The error for a version or a state that cannot be used."""
    why = reason(error) if isinstance(error, OSError | Damaged) else f"{error} is missing"
    return CheckpointError(f"'{path}' cannot be used: {why}.", "Use another version, or put it back from a copy.")
