"""Small datasets for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter

OBS = spaces.Box(-10.0, 10.0, (3,), np.float32)
ACTIONS = spaces.Discrete(2)


def columns_of(lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Random steps of episodes with these lengths; every second one is truncated."""
    rng, steps, ends = np.random.default_rng(seed), sum(lengths), np.cumsum(lengths) - 1
    columns: dict[str, np.ndarray] = {
        "obs": rng.uniform(-1, 1, (steps, 3)).astype(np.float32),
        "action": rng.integers(2, size=steps),
        "reward": rng.normal(size=steps).astype(np.float32),
        "terminated": np.zeros(steps, bool),
        "truncated": np.zeros(steps, bool),
    }
    columns["terminated"][ends[::2]] = True
    columns["truncated"][ends[1::2]] = True
    return columns


def finals_of(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Observations after the last steps."""
    return {"obs": np.random.default_rng([seed, 1]).uniform(-1, 1, (count, 3)).astype(np.float32)}


def make(path: Path, lengths: list[int] | None = None, *, seed: int = 0, **options: Any) -> Dataset:
    """A dataset of random episodes."""
    lengths = lengths or [3, 5, 2, 4]
    changes = {name: options.pop(name) for name in ("groups", "columns", "seeds", "has_final") if name in options}
    columns = {**columns_of(lengths, seed), **changes.pop("columns", {})}
    spaces_ = options.pop("observation_space", OBS), options.pop("action_space", ACTIONS)
    with DatasetWriter(path, *spaces_, **options) as writer:
        writer.add(columns, lengths, finals_of(len(lengths), seed), **changes)
    return Dataset.open(path)
