"""The metadata of a run: ``metadata.json``, most of which every checkpoint keeps a copy of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, RunError
from rltrain.runs.layout import CHECKPOINTS
from rltrain.runs.verify import newest_facts
from rltrain.storage.files import Damaged, exists, keep_damaged, may_be_whole, reason, write_atomically
from rltrain.storage.records import read_record, sealed

METADATA = "metadata.json"
RECORDED = {"mode": dict, "total_timesteps": int, "observation_space": dict, "action_space": dict}
"""Fields that all metadata must have, and their types."""
OUTCOME = ("status", "error", "steps", "seconds", "compile_seconds", "stopped_by", "evaluation")
"""Fields of the metadata that tell how far the run has come; checkpoints keep a copy of all others."""


class Metadata:
    """The facts about a run as its folder holds them.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / METADATA
        self._checkpoints = run / CHECKPOINTS
        self._known: dict[str, Any] | None = None  # the metadata, once this process has written them

    def read(self) -> dict[str, Any]:
        """See :meth:`RunFolder.metadata <rltrain.runs.folder.RunFolder.metadata>`."""
        try:
            return self._sound()
        except (OSError, Damaged) as error:
            fault = error
        copy: dict[str, Any] = {}
        if not may_be_whole(fault):
            with suppress(CheckpointError, Damaged, TypeError, ValueError):
                copy = _with_all_fields(dict(newest_facts(self._checkpoints).get("metadata", {})))
        why = f"'{self._path}' cannot be read: {reason(fault)}."
        if not copy:
            fix = "Make it readable." if may_be_whole(fault) else "The run folder is damaged."
            raise CheckpointError(why, fix) from fault
        warnings.warn(f"{why} Its copy in a checkpoint is used.", stacklevel=3)
        return copy

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps a copy of: the metadata apart from the outcome."""
        return {key: value for key, value in self._now().items() if key not in OUTCOME}

    def update(self, changes: Mapping[str, Any]) -> None:
        """Adds entries.

        Raises:
            RunError: They cannot be written.
        """
        now = self._now()
        try:
            if self._known is None and exists(self._path) and not self._is_sound():
                keep_damaged(self._path)
            self.write({**now, **changes})
        except OSError as error:
            raise RunError(
                f"'{self._path}' cannot be written: {reason(error)}.",
                "Make room, or see that you may write there.",
            ) from error

    def write(self, data: dict[str, Any]) -> None:
        """Replaces all entries.

        Raises:
            OSError: They cannot be written.
        """
        write_atomically(self._path, sealed(data))
        self._known = data

    def _now(self) -> dict[str, Any]:
        return self.read() if self._known is None else self._known

    def _sound(self) -> dict[str, Any]:
        return _with_all_fields(read_record(self._path))

    def _is_sound(self) -> bool:
        with suppress(OSError, Damaged):
            return bool(self._sound())
        return False


def _with_all_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    for key, kind in RECORDED.items():
        if key not in metadata:
            raise Damaged(f"'{key}' is missing")
        if not isinstance(metadata[key], kind):
            raise Damaged(f"'{key}' is no {kind.__name__}")
    return metadata
