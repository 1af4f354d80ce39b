"""What is in the folder of a version: files and checksums, lineage and card; and the keys that sign it."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, ConfigError
from rltrain.model_registry.card import LIMIT
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import POLICY, VERSION, cannot_be_read, step_of
from rltrain.runs.lineage import lineage_facts
from rltrain.storage.files import Damaged, exists, read_bytes, read_text, reason
from rltrain.storage.records import read_record

CARD = "card.md"
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


def read_facts(folder: Path, name: str, number: int, key: bytes | None) -> dict[str, Any]:
    """What the ``version.json`` of a version says, its signature verified where there is a key.

    Args:
        folder: Of the version.
        name: Of the policy.
        number: Of the version.
        key: What it must be signed with; None for nothing.

    Raises:
        CheckpointError: It was changed, or the signature is missing or wrong.
    """
    try:
        facts = read_record(folder / VERSION)
        signature = facts.pop("signature", None)
        if facts.get("version") != number or facts.get("name") != name or not isinstance(facts["files"], dict):
            raise Damaged(f"{VERSION} is of another version")
        said = facts["lineage"]
        if not (isinstance(said, dict) and all(type(said.get(entry)) is kind for entry, kind in LINEAGE.items())):
            raise Damaged(f"{VERSION} has no lineage")
        if key is not None and not hmac.compare_digest(str(signature), str(signature_of(facts, key))):
            raise Damaged(f"{VERSION} is {'signed with another key' if signature else 'not signed'}")
    except (OSError, Damaged, KeyError) as error:
        raise broken(folder, error) from error
    return facts


def signature_of(facts: Mapping[str, Any], key: bytes | None) -> str | None:
    """The signature of what a ``version.json`` says; None without a key."""
    if key is None:
        return None
    return hmac.new(key, json.dumps(facts, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def content_of(path: Path) -> bytes:
    """The content of a file of a run.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        return read_bytes(path)
    except (OSError, Damaged) as error:
        raise cannot_be_read(path, error) from error


def card_in(folder: Path) -> str | None:
    """The card that a version was registered with; None if there was none.

    Raises:
        CheckpointError: It cannot be read.
    """
    path = folder / CARD
    try:
        return read_text(path, LIMIT) if exists(path) else None
    except (OSError, Damaged) as error:
        raise CheckpointError(f"'{path}' cannot be read: {reason(error)}.", "Register the version again.") from error


def broken(path: Path, error: Exception) -> CheckpointError:
    """The error for a version or a state that cannot be used."""
    why = reason(error) if isinstance(error, OSError | Damaged) else f"{error} is missing"
    return CheckpointError(f"'{path}' cannot be used: {why}.", "Use another version, or put it back from a copy.")
