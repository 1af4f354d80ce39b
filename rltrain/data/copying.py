"""Copies episodes from one dataset to another, with all that is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rltrain.data.card import read_card
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter


def copy_episodes(
    source: Dataset, writer: DatasetWriter, chosen: np.ndarray, *, policies: np.ndarray | None = None
) -> None:
    """Adds episodes of a dataset to another, in the order of the first.

    Args:
        source: Where they are.
        writer: Where they go.
        chosen: (E,) bool, whether each one goes.
        policies: The new index of each policy, by its old one.
    """
    for first, after in source.ranges():
        numbers = np.flatnonzero(chosen[first:after]) + first
        if not len(numbers):
            continue
        steps, episodes = source.steps_of(numbers), source.episodes
        writer.add(
            {name: source.take(name, steps) for name in source.columns},
            episodes.length[numbers],
            {name: source.final(name, numbers) for name in source.state_columns()},
            seeds=episodes.seed[numbers],
            policies=episodes.policy[numbers] if policies is None else policies[episodes.policy[numbers]],
            has_final=episodes.has_final[numbers],
            groups={n: [source.groups[n][code] for code in codes[numbers]] for n, codes in episodes.groups.items()},
        )


def writer_like(dataset: Dataset, path: Path, how: str, *, by: str | None = None, name: str = "") -> DatasetWriter:
    """A writer for episodes of a dataset, which it has as an ancestor."""
    kept: dict[str, Any] = {
        key: dataset.manifest[key] for key in ("reward_range", "minari", "personal") if key in dataset.manifest
    }
    return DatasetWriter(
        path,
        dataset.observation_space,
        dataset.action_space,
        name=name or path.name,
        environment=dataset.manifest.get("environment"),
        policies=dataset.policies,
        parents=[dataset],
        how=how if by is None else f"{how}, by {by}",
        facts=kept,
        card=read_card(dataset.path),
    )
