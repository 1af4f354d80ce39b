"""Clips and what was said about pairs of them, as tensors, and how well a model foretells it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rltrain.env import Observation
from rltrain.rewards.ensemble import RewardEnsemble
from rltrain.tree import tree_map

ROWS = 65_536
"""Steps of clips that go through the networks at once, where no gradient is wanted."""
BINS = 10
"""Of a calibration curve."""


@dataclass(frozen=True)
class Clips:
    """C clips of L steps.

    Attributes:
        obs: Tree (C, L, *O).
        action: (C, L, *A).
        counts: (C, L) bool, false for steps after the end of an episode, where nothing is earned.
    """

    obs: Observation
    action: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def rows(self, chosen: Tensor) -> tuple[Observation, Tensor, Tensor]:
        """The steps of some clips, one clip after another: observations, actions, and which of them count."""
        return (
            tree_map(lambda x: x[chosen].flatten(0, 1), self.obs),
            self.action[chosen].flatten(0, 1),
            self.counts[chosen].flatten(),
        )

    def sums(self, model: RewardEnsemble, chosen: Tensor | None = None) -> Tensor:
        """(K, len(chosen)), the sum that each member gives to clips; to all of them by default."""
        chosen = torch.arange(len(self)) if chosen is None else chosen
        obs, action, counts = self.rows(chosen)
        raw = model.raw(obs, action)
        return torch.where(counts, raw, torch.zeros_like(raw)).unflatten(1, (len(chosen), -1)).sum(2)

    @torch.no_grad()
    def all_sums(self, model: RewardEnsemble) -> Tensor:
        """As :meth:`sums` for all clips, some at a time and without gradients."""
        size = max(1, ROWS // self.counts.shape[1])
        return torch.cat([self.sums(model, part) for part in torch.arange(len(self)).split(size)], 1)


@dataclass(frozen=True)
class Comparisons:
    """P answers about pairs of clips.

    Attributes:
        clips: The clips.
        pairs: (P, 2) int64, the left and the right clip.
        target: (P,) float32, 1 where the left one was preferred, 0 the right one, 0.5 neither.
        question: (P,) int64, the same number for answers about the same pair.
    """

    clips: Clips
    pairs: Tensor
    target: Tensor
    question: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Foretold:
    """How well probabilities fit what was preferred.

    Attributes:
        accuracy: Share of the answers other than ``equal`` whose preferred clip is the likelier one.
        loss: Mean cross-entropy, in nats; 0.693 is a coin's.
        brier: Mean squared difference of probability and answer.
        answers: How many answers there are, ``equal`` included.
        calibration: For each tenth of the probabilities that has any: how many, their mean, and the share of answers
            that preferred the left clip.
    """

    accuracy: float | None
    loss: float
    brier: float
    answers: int
    calibration: list[tuple[int, float, float]]

    @property
    def calibration_error(self) -> float:
        """Mean difference of probability and share over the tenths, weighted by their sizes."""
        return sum(count * abs(mean - share) for count, mean, share in self.calibration) / max(self.answers, 1)


def foretold(probability: Tensor, target: Tensor) -> Foretold | None:
    """How well probabilities (P,) that the left clip is preferred fit the answers (P,); None without any."""
    if not len(target):
        return None
    decided = target != 0.5
    right = ((probability > 0.5) == (target > 0.5))[decided]
    p = probability.clamp(1e-6, 1 - 1e-6)
    loss = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    bins = (probability * BINS).long().clamp(0, BINS - 1)
    curve = []
    for number in range(BINS):
        if count := int((mine := bins == number).sum()):
            curve.append((count, float(probability[mine].mean()), float(target[mine].mean())))
    accuracy = float(right.float().mean()) if len(right) else None
    return Foretold(accuracy, float(loss), float((probability - target).square().mean()), len(target), curve)
