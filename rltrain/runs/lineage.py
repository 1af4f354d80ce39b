"""Finds the runs that were trained on a dataset, by the checksums in their metadata."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from rltrain.runs.metadata import METADATA
from rltrain.storage.files import Damaged
from rltrain.storage.records import read_record

DATASET = "dataset"
"""The entry of the metadata about the dataset that a run learned from."""
REWARD_MODEL = "reward_model"
"""The entry of the metadata about the reward model that a run learned from."""
DEPTH = 4  # folders below the first one that are looked into


def runs_trained_on(checksum: str, ancestors: Collection[str], root: Path) -> Iterator[tuple[Path, str]]:
    """Run folders below ``root`` that learned from a dataset, and how they are related to it.

    Args:
        checksum: The dataset.
        ancestors: The datasets that it was made from.
        root: The folder to look in.
    """
    for metadata in sorted(path for depth in range(1, DEPTH + 1) for path in root.glob("*/" * (depth - 1) + METADATA)):
        try:
            entry = read_record(metadata).get(DATASET)
        except (OSError, Damaged):
            continue
        if not isinstance(entry, dict):
            continue
        if entry.get("checksum") == checksum:
            yield metadata.parent, "trained on it"
        elif isinstance(entry.get("ancestors"), list) and checksum in entry["ancestors"]:
            yield metadata.parent, "trained on a dataset made from it"
        elif entry.get("checksum") in ancestors:
            yield metadata.parent, "trained on a dataset that it was made from"
