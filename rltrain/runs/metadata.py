"""The metadata of a run: ``metadata.json``, most of which every checkpoint keeps a copy of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, RunError
from rltrain.runs.layout import CHECKPOINTS
from rltrain.runs.verify import newest_facts
from rltrain.storage.files import Damaged, exists, keep_damaged, may_be_whole, reason, write_atomically
from rltrain.storage.records import read_record, sealed

METADATA = "metadata.json"
RECORDED = ("mode", "total_timesteps", "observation_space", "action_space")
"""Fields that all metadata must have."""
BATCHES = "batches"
"""The field that says which seeds were trained as one batch, each with the step from which on."""
OUTCOME = ("status", "error", "steps", "seconds", "compile_seconds", "stopped_by", "evaluation", "cost")
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


def _is_whole(value: Any, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def _are_steps(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_whole, value))


def _are_batches(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and _is_whole(each.get("from")) and _are_steps(each.get("seeds")) for each in value
    )


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **{
        name: ("dict", lambda value: isinstance(value, dict))
        for name in ("mode", "observation_space", "action_space", "env_observation_space", "env_action_space")
    },
    "total_timesteps": ("number of steps", lambda value: _is_whole(value, 1)),
    "status": ("text", lambda value: isinstance(value, str)),
    "steps": ("number of steps", _is_whole),
    "stop_at_reward": ("number", lambda value: value is None or type(value) in (int, float)),
    "resumed_at": ("list of steps", _are_steps),
    "episodes_restarted_at": ("list of steps", _are_steps),
    BATCHES: ("list of batches", _are_batches),
    "cost": ("dict", lambda value: isinstance(value, dict)),
    **{name: ("dict", lambda value: value is None or isinstance(value, dict)) for name in ("dataset", "reward_model")},
}
"""What the fields that are read again must be, in words, and what tells that they are."""


def _with_all_fields(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata.

    Raises:
        Damaged: A field is missing, or is not what it must be.
    """
    for key in RECORDED:
        if key not in metadata:
            raise Damaged(f"'{key}' is missing")
    for key, (kind, fits) in KINDS.items():
        if key in metadata and not fits(metadata[key]):
            raise Damaged(f"'{key}' is no {kind}")
    return metadata
