"""The data that a run has through the policies that it starts from or is taught by."""

from __future__ import annotations

from typing import Any

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError
from rltrain.plugins import importer_of
from rltrain.runs.folder import RunFolder
from rltrain.runs.lineage import LEARNED_FROM, learned_from


def inherited(config: TrainConfig) -> dict[str, Any]:
    """The checksums of the datasets of these policies, as an entry of the metadata; empty if there are none."""
    found: list[str] = []
    for origin in (config.init_from, config.teacher):
        if origin is None or importer_of(origin) is not None:
            continue
        try:
            found += learned_from(RunFolder.open(origin)[0].metadata())
        except CheckpointError:  # whoever loads the policy says so
            continue
    return {LEARNED_FROM: list(dict.fromkeys(found))} if found else {}
