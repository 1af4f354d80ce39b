"""What a dataset holds, in numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from rltrain.data.card import read_card
from rltrain.data.dataset import Dataset

SAMPLE = 20_000
"""Steps that pictures and shares of actions are made from."""


def summarize(dataset: Dataset) -> dict[str, Any]:
    """Counts, returns and lengths over all and by policy, ends, origin, and what the card lacks, as JSON values."""
    episodes = dataset.episodes
    terminated, truncated = dataset.ends()
    policies = []
    for index, policy in enumerate(dataset.policies):
        mine = episodes.policy == index
        if mine.any():
            policies.append({"name": policy["name"], **_spread(episodes.returns[mine], episodes.length[mine])})
    environment = dataset.manifest.get("environment")
    return {
        "name": dataset.name,
        "path": str(dataset.path),
        "checksum": dataset.checksum,
        "environment": None if environment is None else environment["id"],
        "steps": len(dataset),
        **_spread(episodes.returns, episodes.length),
        "policies": policies,
        "ends": {
            "terminated": int(terminated.sum()),
            "truncated": int((truncated & ~terminated).sum()),
            "unlabelled": int((~truncated & ~terminated).sum()),
        },
        "known_seeds": int((episodes.seed >= 0).sum()),
        "observation_space": str(dataset.observation_space),
        "action_space": str(dataset.action_space),
        "columns": {name: f"{column.dtype} {list(column.shape)}" for name, column in dataset.columns.items()},
        "groups": {name: len(values) for name, values in dataset.groups.items()},
        "bytes": sum(part["bytes"] for part in dataset.parts),
        "how": dataset.manifest.get("how", ""),
        "ancestors": dataset.ancestors,
        "card_lacks": read_card(dataset.path).missing(),
    }


def _spread(returns: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    names = {"mean_return": returns.mean(), "std_return": returns.std(), "min_return": returns.min()}
    names |= {"max_return": returns.max(), "mean_length": lengths.mean()}
    lengths_ = {"min_length": int(lengths.min()), "max_length": int(lengths.max())}
    return {"episodes": len(returns), **{name: float(value) for name, value in names.items()}, **lengths_}


def sample_steps(dataset: Dataset, at_most: int = SAMPLE) -> np.ndarray:
    """Some steps, drawn evenly, in order; always the same ones."""
    if len(dataset) <= at_most:
        return np.arange(len(dataset))
    return np.unique(np.random.default_rng(0).integers(len(dataset), size=at_most))
