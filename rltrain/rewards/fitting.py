"""Fits a reward model to preferences by the model of Bradley and Terry.

The chance that the left clip is preferred is the logistic function of the difference of the two sums of rewards;
Christiano et al. (2017), arXiv:1706.03741, equation 1. Each member learns from a bootstrap sample of the pairs. Those
that its sample lacks, about 1/e of them as in section 2.2.3 there, tell when to stop, and how good the model is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rltrain.errors import RunError
from rltrain.process.stopping import check
from rltrain.rewards.comparisons import Comparisons, Foretold, foretold
from rltrain.rewards.ensemble import RewardEnsemble
from rltrain.rng import derive_seed
from rltrain.tree import tree_map


@dataclass(frozen=True)
class Fit:
    """What came of fitting.

    Attributes:
        epochs: Passes until the weights that were kept.
        held_out: How members foretell the answers that their samples lack; None if there are too few answers.
        fitted: How the ensemble foretells all answers, those that it has learned from.
        keeps_level: Whether the level of rewards means something, because a clip holds the end of an episode.
    """

    epochs: int
    held_out: Foretold | None
    fitted: Foretold
    keeps_level: bool


def fit(model: RewardEnsemble, data: Comparisons, seed: int = 0) -> Fit:
    """Fits the model and sets its scale; the same data and seed give the same model.

    Args:
        model: A new model, on the CPU.
        data: The answers.
        seed: Seed of the samples and of the order.

    Raises:
        RunError: The loss is not finite any more.
        Stopped: A signal asked for it.
    """
    rng = torch.Generator().manual_seed(derive_seed(seed, "fit"))
    counts = _bootstrap(data.question, len(model.shift), rng)  # (K, P)
    missing = counts == 0
    used = torch.unique(data.pairs)
    obs, action, valid = data.clips.rows(used)
    model.standardise(tree_map(lambda x: x[valid], obs), action[valid])
    optimizer = torch.optim.AdamW(
        model.parameters(), model.config.learning_rate, weight_decay=model.config.weight_decay, fused=False
    )
    best, kept, at = float("inf"), {name: x.clone() for name, x in model.state_dict().items()}, 0
    for epoch in range(1, model.config.epochs + 1):
        check()
        for rows in torch.randperm(len(data), generator=rng).split(model.config.batch_size):
            weight = counts[:, rows]
            losses = _losses(_logits(model, data, rows), data.target[rows]) * weight
            optimizer.zero_grad(set_to_none=True)
            (losses.sum() / weight.sum().clamp(min=1)).backward()
            optimizer.step()
        logits = _all_logits(model, data)
        each = _losses(logits, data.target)
        judged = missing if bool(missing.any()) else torch.ones_like(missing)
        loss = float(each[judged].mean())
        if not math.isfinite(loss):
            raise RunError(
                f"The loss of the reward model is not finite after {epoch} passes over the answers.",
                "Lower the learning rate: --learning-rate.",
            )
        if loss < best - 1e-4:
            best, at = loss, epoch
            kept = {name: x.clone() for name, x in model.state_dict().items()}
        elif epoch - at >= model.config.patience:
            break
    model.load_state_dict(kept)
    with torch.no_grad():
        logits = _all_logits(model, data)
        chances = torch.sigmoid(logits)
        seen = missing.any(0)
        out_of_sample = (chances * missing).sum(0)[seen] / missing.sum(0)[seen]
        keeps_level = not bool(data.clips.counts[used].all())
        raw = torch.cat([model.raw(*data.clips.rows(part)[:2]) for part in used.split(256)], 1)
        model.normalise(raw, valid, keep_level=keeps_level)
    return Fit(at, foretold(out_of_sample, data.target[seen]), foretold_by(chances, data.target), keeps_level)


def foretold_by(chances: Tensor, target: Tensor) -> Foretold:
    """How the mean of the members' chances (K, P) fits the answers (P,), of which there is at least one."""
    found = foretold(chances.mean(0), target)
    assert found is not None
    return found


def _bootstrap(question: Tensor, members: int, rng: torch.Generator) -> Tensor:
    """(K, P) how often each member's sample has each answer; answers about one pair are drawn together."""
    names, index = torch.unique(question, return_inverse=True)
    drawn = torch.randint(len(names), (members, len(names)), generator=rng)
    often = torch.zeros(members, len(names)).scatter_add_(1, drawn, torch.ones(members, len(names)))
    return often[:, index]


def _logits(model: RewardEnsemble, data: Comparisons, rows: Tensor) -> Tensor:
    sums = data.clips.sums(model, data.pairs[rows].flatten()).unflatten(1, (len(rows), 2))
    return sums[..., 0] - sums[..., 1]


@torch.no_grad()
def _all_logits(model: RewardEnsemble, data: Comparisons) -> Tensor:
    sums = data.clips.all_sums(model)[:, data.pairs]
    return sums[..., 0] - sums[..., 1]


def _losses(logits: Tensor, target: Tensor) -> Tensor:
    """(K, P) cross-entropy of each answer."""
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, target.expand_as(logits), reduction="none")
