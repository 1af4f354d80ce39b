"""What a run has learned from, and what was made of a dataset: runs, checkpoints, exports; all by checksums."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rltrain.runs.layout import CHECKPOINTS, list_checkpoints
from rltrain.runs.metadata import METADATA
from rltrain.storage.files import Damaged, exists, read_text
from rltrain.storage.records import read_record, unsealed

DATASET = "dataset"
"""The entry of the metadata about the dataset that a run learned from."""
REWARD_MODEL = "reward_model"
"""The entry of the metadata about the reward model that a run learned from."""
LEARNED_FROM = "learned_from"
"""The entry of the metadata, and of exports, with the checksums of all datasets that a policy has something of: its
own, those that this was made from, those whose clips its reward model is fitted to, and those of the policies that it
started from or was taught by."""
DEPTH = 4  # folders below the first one that are looked into
DESCRIPTION_LIMIT = 2**20


class Descendant(NamedTuple):
    """Something that was made of a dataset.

    Attributes:
        kind: ``run``, ``checkpoint`` or ``export``.
        path: Where it is.
        how: How it came to be, as in "was trained on it".
    """

    kind: str
    path: Path
    how: str


def learned_from(metadata: Mapping[str, Any]) -> list[str]:
    """The checksums of all datasets that the policy of a run has something of; see :data:`LEARNED_FROM`."""
    dataset, reward = (_mapping(metadata.get(name)) for name in (DATASET, REWARD_MODEL))
    found = [*_listed(metadata.get(LEARNED_FROM)), dataset.get("checksum"), *_listed(dataset.get("ancestors"))]
    found += _listed(reward.get("datasets"))
    return list(dict.fromkeys(each for each in found if isinstance(each, str)))


def lineage_facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What an export of a policy, or a version in a registry, says of the data that it comes from."""
    facts: dict[str, Any] = {LEARNED_FROM: learned_from(metadata)}
    for name in (DATASET, REWARD_MODEL):
        if isinstance(entry := metadata.get(name), dict):
            facts[name] = {key: entry[key] for key in ("name", "checksum", "labels") if key in entry}
    return facts


def _runs_trained_on(checksum: str, ancestors: Collection[str], root: Path) -> Iterator[tuple[Path, str]]:
    """Run folders below ``root`` that learned from a dataset, and how they are related to it.

    Args:
        checksum: The dataset.
        ancestors: The datasets that it was made from.
        root: The folder to look in.
    """
    for path in _below(root, METADATA):
        try:
            metadata = read_record(path)
        except (OSError, Damaged):
            continue
        if how := _how(metadata, checksum, ancestors):
            yield path.parent, how


def _how(metadata: Mapping[str, Any], checksum: str, ancestors: Collection[str]) -> str:
    dataset, reward = (_mapping(metadata.get(name)) for name in (DATASET, REWARD_MODEL))
    if dataset.get("checksum") == checksum:
        return "trained on it"
    if checksum in _listed(dataset.get("ancestors")):
        return "trained on a dataset made from it"
    if dataset.get("checksum") in ancestors:
        return "trained on a dataset that it was made from"
    if checksum in _listed(reward.get("datasets")):
        return "trained with a reward that was fitted to clips of it"
    if checksum in learned_from(metadata):
        return "begun from, or taught by, a policy that has learned from it"
    return ""


def descendants(checksum: str, ancestors: Collection[str], root: Path) -> Iterator[Descendant]:
    """Runs below ``root`` that have learned from a dataset, their checkpoints, and exports of their policies.

    Args:
        checksum: The dataset.
        ancestors: The datasets that it was made from.
        root: The folder to look in.
    """
    for run, how in _runs_trained_on(checksum, ancestors, root):
        yield Descendant("run", run, f"was {how}")
        for checkpoint in list_checkpoints(run / CHECKPOINTS):
            yield Descendant("checkpoint", checkpoint, f"is of {run.name}")
    for path in _below(root, "*.json"):
        export = path.with_name(path.name.removesuffix(".json"))
        try:
            if path.name == METADATA or not exists(export):
                continue
            facts, unchanged = unsealed(read_text(path, DESCRIPTION_LIMIT))
        except (OSError, Damaged):
            continue
        lineage = facts.get("lineage")
        if not unchanged or not isinstance(lineage, dict) or "kind" not in facts:
            continue
        if checksum in _listed(lineage.get(LEARNED_FROM)):
            yield Descendant("export", export, f"is of {lineage.get('run')}, step {lineage.get('step')}")


def _listed(value: Any) -> list[Any]:
    """A list that a file should have; empty where it has something else."""
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _below(root: Path, name: str) -> list[Path]:
    """Files of a name at most :data:`DEPTH` folders below one."""
    return sorted(path for depth in range(1, DEPTH + 1) for path in root.glob("*/" * (depth - 1) + name))
