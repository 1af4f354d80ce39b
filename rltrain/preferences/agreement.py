"""How far labellers agree with each other, and with the reward model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rltrain.preferences.answers import TARGETS, Answer


@dataclass(frozen=True)
class Agreement:
    """How far labellers agree.

    Attributes:
        pairs: How many questions were answered by more than one.
        share: Share of the pairs of answers to the same question that are the same; None without any.
        alpha: Krippendorff's alpha for categories: 1 is full agreement, 0 that of answers by chance; None where it is
            not defined, because nobody agrees to differ.
    """

    pairs: int
    share: float | None
    alpha: float | None


def agreement(answers: Sequence[Answer]) -> Agreement:
    """How far labellers agree on ``left``, ``right`` and ``equal``; what was skipped does not count.

    Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", for nominal data with missing values.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for answer in answers:
        if answer.choice in TARGETS:
            said[answer.pair].append(answer.choice)
    several = [choices for choices in said.values() if len(choices) > 1]
    both = [a == b for choices in several for a, b in combinations(choices, 2)]
    totals: Counter[str] = Counter(choice for choices in several for choice in choices)
    n = sum(totals.values())
    differing = sum(sum(a != b for a, b in combinations(choices, 2)) * 2 / (len(choices) - 1) for choices in several)
    expected = sum(totals[a] * totals[b] for a, b in combinations(totals, 2)) * 2
    alpha = 1 - (n - 1) * differing / expected if expected else None
    return Agreement(len(several), sum(both) / len(both) if both else None, alpha)


def agreement_with(answers: Sequence[Answer], chance: Mapping[str, float]) -> dict[str, tuple[int, float]]:
    """For each labeller: how many of their decided answers there are, and the share that the model foretells.

    Args:
        answers: The answers.
        chance: By pair, the chance that the left clip is preferred.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.choice in ("left", "right") and answer.pair in chance:
            right[answer.labeller].append((chance[answer.pair] > 0.5) == (answer.choice == "left"))
    return {name: (len(each), sum(each) / len(each)) for name, each in right.items()}
