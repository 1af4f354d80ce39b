"""The record, in the metadata of each run, of which seeds were trained as one batch and from which step on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rltrain.runs.metadata import BATCHES
from rltrain.training.trainer import Trainer


def note_batch(trainers: Sequence[Trainer]) -> None:
    """Records that runs are one batch from their current step on."""
    seeds = [trainer.config.seed for trainer in trainers]
    for trainer in trainers:
        batches = trainer.folder.metadata().get(BATCHES, [])
        trainer.folder.update_metadata({BATCHES: with_batch(batches, trainer.global_step, seeds)})


def newest_record(metadata: Mapping[str, Any]) -> int:
    """The step from which on a run was last recorded to be part of a batch; -1 if it never was."""
    return max((int(entry["from"]) for entry in metadata.get(BATCHES, [])), default=-1)


def batch_at(metadata: Mapping[str, Any], step: int) -> list[int]:
    """The seeds that a run was trained with as one batch from a step on; none if it was alone or they are not known."""
    batches = [entry["seeds"] for entry in metadata.get(BATCHES, []) if entry["from"] <= step]
    return list(batches[-1]) if batches else []


def with_batch(batches: Sequence[Mapping[str, Any]], step: int, seeds: Sequence[int]) -> list[Mapping[str, Any]]:
    """The record of batches with another one from a step on, instead of what is known from there on."""
    return [*(entry for entry in batches if entry["from"] < step), {"from": step, "seeds": list(seeds)}]


def apart(batch: Sequence[int], seeds: Sequence[int]) -> str:
    """The warning for a batch that goes on with other seeds than it had."""
    ours, theirs = (", ".join(map(str, each)) for each in (seeds, batch))
    if not batch:
        return f"Not bit for bit: each of the seeds {ours} was trained alone, and a batch is rounded otherwise."
    return (
        f"Not bit for bit: the seeds {theirs} were trained as one batch, and {ours} without the others is rounded "
        "otherwise. To go on exactly, name the runs of all of them: rltrain resume RUN RUN ..."
    )
