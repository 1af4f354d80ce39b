"""Which pairs of clips are asked about: those on which the members of the reward model disagree most, or any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.preferences.clips import Clip, draw_clips, tensors_of
from rltrain.rewards.ensemble import RewardEnsemble

CANDIDATES = 10
"""Pairs that are drawn for each one that is asked about, as in Christiano et al. (2017), section 2.2.4."""
AT_ONCE = 256


@dataclass(frozen=True)
class Pair:
    """A question: which of two clips is better.

    Attributes:
        name: Its name in the folder of preferences.
        round: The number of its round, whose dataset has both clips.
        left: The one shown on the left.
        right: The one shown on the right.
    """

    name: str
    round: int
    left: Clip
    right: Clip


def choose_pairs(
    dataset: Dataset, length: int, count: int, *, model: RewardEnsemble | None, seed: int
) -> list[tuple[Clip, Clip]]:
    """Pairs of clips of one dataset to ask about.

    Args:
        dataset: The episodes.
        length: Steps of a clip.
        count: How many.
        model: The reward model whose members are to disagree; None to draw pairs by chance.
        seed: Seed of the draws.

    Raises:
        ConfigError: There are no such clips.
    """
    rng = np.random.default_rng(seed)
    candidates = count * (2 if model is None else CANDIDATES)
    clips = draw_clips(dataset, length, 2 * candidates, rng)
    pairs = list(zip(clips[::2], clips[1::2], strict=True))
    if model is not None:
        spread = disagreement(dataset, length, pairs, model)
        pairs = [pairs[i] for i in np.argsort(-spread, kind="stable")]
    different = [(left, right) for left, right in dict.fromkeys(pairs) if left != right]
    if not different:
        raise ConfigError("All clips are the same one.", "Record more episodes, or give a shorter --segment.")
    return different[:count]


@torch.no_grad()
def disagreement(
    dataset: Dataset, length: int, pairs: Sequence[tuple[Clip, Clip]], model: RewardEnsemble
) -> np.ndarray:
    """(P,) the deviation over the members of the chance that the left clip is preferred."""
    found = []
    for first in range(0, len(pairs), AT_ONCE):
        part = pairs[first : first + AT_ONCE]
        sums = tensors_of(dataset, length, [clip for pair in part for clip in pair]).all_sums(model)
        chance = torch.sigmoid(sums[:, ::2] - sums[:, 1::2])  # (K, P)
        found.append(chance.std(0, correction=0))
    return torch.cat(found).numpy()
