"""Linear probes: how much of actions and returns a linear function of the features says, on episodes held out.

As in Zhang et al. (2022), "Light-weight probing of unsupervised representations for reinforcement learning",
arXiv:2208.12345.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.parts.critics import action_encoder
from rltrain.data.dataset import Dataset
from rltrain.data.view import AgentView, chunks, rewards_of
from rltrain.env import Observation
from rltrain.rng import derive_seed

ROWS = 10_000
"""Steps that a probe is fitted to, and those that it is measured on, at most."""
RIDGE = 1e-4
"""Weight of the squares of the coefficients, as a share of the mean variance of the features."""


def ridge(features: Tensor, targets: Tensor, weight: float = RIDGE) -> tuple[Tensor, Tensor]:
    """The linear function with the least squared error, in float64.

    Args:
        features: (S, F).
        targets: (S, Y).
        weight: See :data:`RIDGE`.

    Returns:
        Coefficients (F, Y) and offsets (Y,).
    """
    mean, level = features.mean(0), targets.mean(0)
    centred = features - mean
    gram = centred.T @ centred
    penalty = weight * gram.diagonal().mean().clamp(min=1e-12)
    gram = gram + penalty * torch.eye(len(gram), dtype=gram.dtype)
    coefficients = torch.linalg.solve(gram, centred.T @ (targets - level))
    return coefficients, level - mean @ coefficients


def returns_to_go(dataset: Dataset, gamma: float) -> np.ndarray:
    """(S,) float64 discounted rewards from each step to the end of its episode.

    Raises:
        DatasetError: There is a reward that is not finite.
    """
    found = rewards_of(dataset)
    ends = set((dataset.episodes.end - 1).tolist())
    for step in range(len(found) - 2, -1, -1):
        if step not in ends:
            found[step] += gamma * found[step + 1]
    return found


class Probe:
    """Measures features by what a linear function of them says of the actions and returns in a dataset.

    Args:
        dataset: The dataset.
        view: Its observations and actions.
        steps: The steps that probes are fitted to; (S,).
        held_out: The steps that they are measured on; (H,).
        gamma: Discount factor of the return.
        seed: Chooses :data:`ROWS` of the steps where there are more.
    """

    def __init__(
        self, dataset: Dataset, view: AgentView, steps: np.ndarray, held_out: np.ndarray, gamma: float, seed: int
    ) -> None:
        self.view = view
        self.sides = [_some(steps, derive_seed(seed, "fitted")), _some(held_out, derive_seed(seed, "measured"))]
        self.choices = isinstance(view.action_space, spaces.Discrete)
        numbers = action_encoder(view.action_space)
        returns = returns_to_go(dataset, gamma)
        self.targets = []
        for side in self.sides:
            action = numbers(view.action(side)).cpu().double()
            self.targets.append(torch.cat([action, torch.from_numpy(returns[side]).unsqueeze(1)], 1))

    @torch.no_grad()
    def measure(self, features: Callable[[Observation], Tensor]) -> dict[str, float]:
        """Scores of features (B, F) of observations, on the steps that were held out.

        Returns:
            ``action_accuracy``, the share of choices that are found, or for other actions ``action_r2``; and
            ``return_r2``. R2 is the share of the variance that is explained: below 0 where the mean says more.
        """
        seen, new = (
            torch.cat([features(self.view.obs(chunk)).cpu().double() for chunk in chunks(side)]) for side in self.sides
        )
        coefficients, offsets = ridge(seen, self.targets[0])
        found, wanted = new @ coefficients + offsets, self.targets[1]
        scores = {"return_r2": _r2(found[:, -1:], wanted[:, -1:])}
        found, wanted = found[:, :-1], wanted[:, :-1]
        if self.choices:
            return {"action_accuracy": float((found.argmax(1) == wanted.argmax(1)).double().mean()), **scores}
        return {"action_r2": _r2(found, wanted), **scores}


def _r2(found: Tensor, wanted: Tensor) -> float:
    """The share of the variance that is explained; 0 where there is none."""
    variance = float((wanted - wanted.mean(0)).square().sum())
    return 1.0 - float((found - wanted).square().sum()) / variance if variance else 0.0


def _some(steps: np.ndarray, seed: int) -> np.ndarray:
    if len(steps) <= ROWS:
        return steps
    return np.sort(np.random.default_rng(seed).choice(steps, ROWS, replace=False))
