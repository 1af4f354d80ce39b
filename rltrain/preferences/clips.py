"""Clips: parts of recorded episodes, all of the same length.

A clip that reaches the end of an episode which ended by itself goes on with nothing: what is earned there counts as 0.
So a clip in which an episode ends early can be told from one in which it goes on, also where every step has the same
reward. A clip never goes beyond a time limit, after which the episode could have gone on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rltrain.data.columns import ACTION, OBS, REWARD
from rltrain.data.dataset import Dataset
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rewards.comparisons import Clips


@dataclass(frozen=True, order=True)
class Clip:
    """A part of an episode.

    Attributes:
        episode: The number of the episode in its dataset.
        start: Its first step there.
    """

    episode: int
    start: int


def draw_clips(dataset: Dataset, length: int, count: int, rng: np.random.Generator) -> list[Clip]:
    """Clips, each of the possible ones with the same chance.

    Args:
        dataset: The episodes.
        length: Steps of a clip.
        count: How many.
        rng: The generator.

    Raises:
        ConfigError: No episode is long enough.
    """
    places = places_of(dataset, length)
    total = int(places.sum())
    if not total:
        longest = int(dataset.episodes.length.max())
        raise ConfigError(
            f"No episode has the {length} steps of a clip: the longest has {longest}, up to its time limit.",
            f"Give --segment {longest} or less.",
        )
    before = np.cumsum(places) - places
    drawn = rng.integers(total, size=count)
    episodes = np.searchsorted(before + places, drawn, side="right")
    return [Clip(int(e), int(at - before[e])) for e, at in zip(episodes, drawn, strict=True)]


def places_of(dataset: Dataset, length: int) -> np.ndarray:
    """(E,) how many clips each episode has; see the module for where they may begin."""
    terminated, _ = dataset.ends()
    steps = dataset.episodes.length
    return np.where(terminated, steps, np.maximum(steps - length + 1, 0))


def steps_of(dataset: Dataset, length: int, clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """(C, L) the steps of clips in the dataset, and which of them are there; others repeat the last one."""
    episodes = np.array([clip.episode for clip in clips], np.int64)
    first = dataset.episodes.start[episodes] + np.array([clip.start for clip in clips], np.int64)
    steps = first[:, None] + np.arange(length)
    last = dataset.episodes.end[episodes][:, None] - 1
    return np.minimum(steps, last), steps <= last


def tensors_of(dataset: Dataset, length: int, clips: list[Clip]) -> Clips:
    """The clips as tensors."""
    steps, counts = steps_of(dataset, length, clips)
    shape = steps.shape

    def column(name: str) -> torch.Tensor:
        return torch.from_numpy(dataset.take(name, steps.ravel())).unflatten(0, shape)

    names = [name for name in dataset.columns if name.partition(".")[0] == OBS]
    obs: Observation = column(OBS) if names == [OBS] else {name.removeprefix(f"{OBS}."): column(name) for name in names}
    return Clips(obs, column(ACTION), torch.from_numpy(counts))


def true_returns(dataset: Dataset, length: int, clips: list[Clip]) -> np.ndarray:
    """(C,) float64, the sum of the environment's own rewards in each clip."""
    steps, counts = steps_of(dataset, length, clips)
    rewards = dataset.take(REWARD, steps.ravel()).reshape(steps.shape).astype(np.float64)
    return np.where(counts, rewards, 0.0).sum(1)
