"""The files of a version: their names, and whether they are as its ``version.json`` says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.runs.layout import VERSION
from rltrain.runs.lock import LOCK
from rltrain.storage.digests import entry_of, unreadable_in_time
from rltrain.storage.files import Damaged

ALLOWED = re.compile(
    r"(config\.yaml|metadata\.json|card\.md|checkpoints/step_\d{12}/\w{1,64}\.(safetensors|json))", re.ASCII
)
"""What a version may hold: text and tensors, nothing that anybody would run."""


def files_in(folder: Path) -> list[str]:
    """The files of a version, links included, by their names in its folder."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


def listed(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of the files in a ``version.json`` that somebody else may have written.

    Raises:
        Damaged: There are none, or one has a name or a size that no file of a version has.
    """
    files = facts.get("files")
    if not isinstance(files, dict) or not files:
        raise Damaged(f"{VERSION} lists no files")
    for name, entry in files.items():
        if not ALLOWED.fullmatch(name):
            raise Damaged(f"{VERSION} lists {name[:100]!r}, which is no file of a policy")
        size = entry.get("bytes") if isinstance(entry, dict) else None
        if type(size) is not int or size < 0 or not isinstance(entry.get("sha256"), str):
            raise Damaged(f"{VERSION} does not say how large '{name}' is")
    return files


def check_files(folder: Path, facts: Mapping[str, Any]) -> None:
    """Compares every file of a version with its entry.

    Raises:
        OSError: One cannot be read, or is a link.
        Damaged: One was changed, is missing, or is one too many.
    """
    there = set(files_in(folder)) - {VERSION, LOCK}
    if odd := sorted(there ^ set(facts["files"])):
        raise Damaged(f"'{odd[0]}' is {'not' if odd[0] in there else 'missing, though it is'} in {VERSION}")
    if (fault := unreadable_in_time(folder, facts["files"])) is not None:
        raise Damaged(fault)
    for name, entry in facts["files"].items():
        if entry_of(folder / name) != entry:
            raise Damaged(f"'{name}' was changed: its checksum differs")
