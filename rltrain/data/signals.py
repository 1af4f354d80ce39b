"""A number of signals for each episode of a dataset, by which datasets are compared.

Steps of an episode depend on each other and episodes do not, so every signal is one number of a whole episode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, leaves_of
from rltrain.data.dataset import Dataset
from rltrain.spaces import MASK

Watched: TypeAlias = Literal["obs", "action", "return"]
WATCHED: tuple[Watched, ...] = get_args(Watched)
MOST = 64
"""Numbers of a part of an observation or action that are watched one by one; of more, their mean and deviation are."""


def episode_signals(dataset: Dataset, watch: Sequence[Watched] = WATCHED) -> dict[str, np.ndarray]:
    """(E,) float64 for each signal by name.

    Of every number of an observation, and of a continuous action, these are the mean over the episode and the standard
    deviation; of a choice the share of steps in which it was taken; and the return and the length of the episode.

    Args:
        dataset: The dataset.
        watch: Which of :data:`WATCHED`.
    """
    signals: dict[str, list[np.ndarray]] = {}
    for first, after in dataset.ranges():
        start, end = int(dataset.episodes.start[first]), int(dataset.episodes.end[after - 1])
        lengths = dataset.episodes.length[first:after]
        for root, space in ((OBS, dataset.observation_space), (ACTION, dataset.action_space)):
            if root not in watch:
                continue
            for name, leaf in leaves_of(space, root).items():
                if not isinstance(leaf, spaces.Text) and name != f"{OBS}.{MASK}":
                    for signal, values in _of_leaf(name, leaf, dataset.read(name, start, end), lengths):
                        signals.setdefault(signal, []).append(values)
    found = {name: np.concatenate(values) for name, values in signals.items()}
    if "return" in watch:
        found |= {"return": dataset.episodes.returns, "length": dataset.episodes.length.astype(np.float64)}
    return found


def _of_leaf(name: str, leaf: spaces.Space, rows: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The signals of one column; ``rows`` (M, ...) are the steps of the episodes one after another."""
    flat = rows.reshape(len(rows), -1)
    if isinstance(leaf, spaces.Discrete) and leaf.n <= MOST:
        for choice in range(int(leaf.n)):
            yield f"{name} = {choice + int(leaf.start)}", _means(flat[:, 0] == choice + leaf.start, lengths)
        return
    if flat.shape[1] > MOST:
        mean, square = flat.mean(1, dtype=np.float64), (flat.astype(np.float64) ** 2).mean(1)
        flat = np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0.0))], 1)
        titles = [f"{name} mean", f"{name} spread"]
    else:
        titles = [name] if flat.shape[1] == 1 else [f"{name}[{index}]" for index in range(flat.shape[1])]
    for title, column in zip(titles, flat.T.astype(np.float64), strict=True):
        mean = _means(column, lengths)
        yield title, mean
        yield f"{title} deviation", np.sqrt(np.maximum(_means((column - np.repeat(mean, lengths)) ** 2, lengths), 0.0))


def _means(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The mean over each episode."""
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(values.astype(np.float64), starts) / lengths
