"""Formulas of the agents against loops over Python's numbers, which are float64, for random cases of random sizes.

Each check takes an example and a type, computes both, and returns how far apart they are: the largest difference, over
the largest number of the loops or 1. The loops are given the numbers as the type has rounded them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.torture.oracles.distributions import categories, coins, normal, several_categories, squashed
from tests.torture.oracles.examples import Example, hold
from tests.torture.oracles.losses import of_dqn, of_ppo, of_pqn, of_quantiles
from tests.torture.oracles.replay import priorities, several_steps
from tests.torture.oracles.returns import advantages, returns

__all__ = ["CHECKS", "hold"]

CHECKS: dict[Callable[[Example, torch.dtype], float], int] = {
    advantages: 1_600,
    returns: 1_600,
    several_steps: 1_000,
    priorities: 1_000,
    categories: 600,
    several_categories: 600,
    coins: 600,
    normal: 600,
    squashed: 600,
    of_ppo: 600,
    of_dqn: 500,
    of_quantiles: 500,
    of_pqn: 200,
}
"""Every check, and how many examples of it are tried: 10,000 in all."""
