"""Checksums of files, as manifests hold them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from rltrain.storage.files import open_file


def entry_of(path: Path) -> dict[str, Any]:
    """The entry of a regular file in a manifest: its ``bytes`` and its ``sha256``.

    Raises:
        OSError: It is a link or something else, or cannot be read.
    """
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
