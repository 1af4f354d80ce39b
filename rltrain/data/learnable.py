"""Refuses a dataset with numbers that nobody can learn from, before a run begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, REWARD, leaves_of
from rltrain.data.dataset import Dataset
from rltrain.errors import DatasetError
from rltrain.spaces import categories_of

LIMIT = 1e30
"""A number from which on a loss is not finite any more, as while training."""
AT_ONCE = 2**16  # steps


def check_learnable(dataset: Dataset) -> None:
    """Checks that observations, actions and rewards are finite, and categories those of their spaces.

    Raises:
        DatasetError: One is not; names the column, the episode and the step.
    """
    leaves = {**leaves_of(dataset.observation_space, OBS), **leaves_of(dataset.action_space, ACTION)}
    for name, space in {**leaves, REWARD: None}.items():
        if isinstance(space, spaces.Text):
            continue
        for episode, step, rows in _blocks(dataset, name):
            _refuse(dataset, name, space, rows, episode, step)


def _blocks(dataset: Dataset, name: str) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows of a column, with the episode and the step of each; observations after the last step too, where known."""
    episodes = dataset.episodes
    end, start = episodes.end, episodes.start
    for first in range(0, len(dataset), AT_ONCE):
        steps = np.arange(first, min(first + AT_ONCE, len(dataset)))
        episode = np.searchsorted(end, steps, side="right")
        yield episode, steps - start[episode], dataset.read(name, first, int(steps[-1]) + 1)
    if name in dataset.state_columns():
        known = np.flatnonzero(episodes.has_final)
        for first in range(0, len(known), AT_ONCE):
            chosen = known[first : first + AT_ONCE]
            yield chosen, episodes.length[chosen], dataset.final(name, chosen)


def _refuse(
    dataset: Dataset, name: str, space: spaces.Space | None, rows: np.ndarray, episode: np.ndarray, step: np.ndarray
) -> None:
    bounds: Any = None if space is None else categories_of(space)
    if bounds is not None:
        bad, why = (rows < bounds[0]) | (rows > bounds[1]), f"which {space} does not have"
    elif rows.dtype.kind == "f":
        bad, why = ~(np.abs(rows) < LIMIT), "which nobody can learn from"
    else:
        return
    where = bad.reshape(len(rows), -1).any(1)
    if where.any():
        row = int(where.argmax())
        value = rows[row][bad[row]].flat[0] if rows.ndim > 1 else rows[row]
        raise DatasetError(
            f"'{name}' in '{dataset.path}' is {value:g} in episode {episode[row]}, step {step[row]}, {why}.",
            "Mend the data, or leave such episodes out; 'rltrain data check' finds them all.",
        )
