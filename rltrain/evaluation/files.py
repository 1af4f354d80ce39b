"""Writes the files that a user has named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rltrain.errors import ConfigError
from rltrain.storage.files import reason
from rltrain.storage.making import replacing


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder that replaces ``path`` on success and is deleted on failure.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        fix = "Name a file in a folder you may write to." if path.parent.is_dir() else "Make the folder first."
        raise ConfigError(f"'{path}' cannot be written: {reason(error)}.", fix) from error
