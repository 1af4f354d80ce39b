"""A folder of preferences in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from rltrain.errors import CheckpointError
from rltrain.preferences.agreement import agreement, agreement_with
from rltrain.preferences.answers import CHOICES
from rltrain.preferences.clips import tensors_of
from rltrain.preferences.folder import Preferences, Round
from rltrain.rewards.ensemble import RewardEnsemble
from rltrain.rewards.files import load_reward


def summarize(prefs: Preferences) -> dict[str, Any]:
    """Rounds, answers, agreement and the newest model, as JSON values."""
    rounds, answers = prefs.rounds(), prefs.answers.current()
    answered = {answer.pair for answer in answers}
    said = Counter(answer.choice for answer in answers)
    newest = prefs.newest_model()
    model, facts, right = None, None, {}
    if newest is not None:
        try:
            model, facts = load_reward(newest)
            right = agreement_with(answers, chances(rounds, prefs.segment, model))
        except CheckpointError:
            model = None
    together = agreement(answers)
    return {
        "path": str(prefs.path),
        "environment": prefs.environment["id"],
        "segment": prefs.segment,
        "rounds": [
            {
                "number": each.number,
                "pairs": len(each.pairs),
                "answered": sum(pair.name in answered for pair in each.pairs),
                "chosen": str(each.facts.get("chosen")),
                "policies": [str(policy["name"]) for policy in each.dataset.policies],
            }
            for each in rounds
        ],
        "choices": {name: said[name] for name in CHOICES if said[name]},
        "labellers": {
            name: {"answers": count, "foretold": right[name][1] if name in right else None}
            for name, count in sorted(Counter(answer.labeller for answer in answers).items())
        },
        "agreement": {"pairs": together.pairs, "share": together.share, "alpha": together.alpha},
        "damaged": prefs.answers.damaged,
        "model": None if facts is None else {**facts, "path": str(newest)},
    }


@torch.no_grad()
def sums_of(each: Round, segment: int, model: RewardEnsemble) -> torch.Tensor:
    """(K, P, 2), what the members of a model give to the left and right clips of a round."""
    return tensors_of(each.dataset, segment, each.clips).all_sums(model).unflatten(1, (-1, 2))


def chances(rounds: list[Round], segment: int, model: RewardEnsemble) -> dict[str, float]:
    """By pair, the chance that the left clip is preferred, according to a model."""
    found: dict[str, float] = {}
    for each in rounds:
        sums = sums_of(each, segment, model)
        chance = torch.sigmoid(sums[..., 0] - sums[..., 1]).mean(0).tolist()
        found |= {pair.name: value for pair, value in zip(each.pairs, chance, strict=True)}
    return found
