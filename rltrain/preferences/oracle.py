"""A scripted labeller, who knows the true reward: for tests, and to see how many answers a task needs.

Its mistakes are those of Lee et al. (2021), "B-Pref", arXiv:2111.03026: answers by chance according to the difference,
and answers that are the wrong way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from rltrain.errors import ConfigError
from rltrain.preferences.folder import Preferences, returns_of
from rltrain.rng import derive_seed

ORACLE = "oracle"


def label_by_oracle(
    prefs: Preferences,
    *,
    error_rate: float = 0.0,
    rationality: float = math.inf,
    seed: int = 0,
    most: int | None = None,
    labeller: str = ORACLE,
    pairs: Iterable[str] | None = None,
) -> int:
    """Answers the questions that the oracle has not answered yet, by the true returns of the clips.

    What it says of a pair depends on the pair and the seed alone, so an interrupted call and another one after it give
    the same answers as one.

    Args:
        prefs: The preferences.
        error_rate: Chance that an answer is the wrong way round.
        rationality: How sure it is of a difference: the better clip is preferred with the chance
            ``1 / (1 + exp(-rationality * difference))``. Without a bound it always is, and equal clips are ``equal``.
        seed: Seed of its mistakes.
        most: The most questions to answer.
        labeller: The name it goes by.
        pairs: The questions to answer, by name; all by default.

    Returns:
        How many it has answered.

    Raises:
        ConfigError: A rate is out of range.
    """
    if not 0.0 <= error_rate <= 1.0:
        raise ConfigError(f"error_rate={error_rate} is no chance.", "Give one from 0 to 1.")
    if not rationality >= 0.0:
        raise ConfigError(f"rationality={rationality} is out of range.", "Give a number from 0 on.")
    returns = returns_of(prefs.rounds(), prefs.segment)
    done = {answer.pair for answer in prefs.answers.current() if answer.labeller == labeller}
    wanted = [name for name in (returns if pairs is None else pairs) if name not in done][:most]
    for name in wanted:
        left, right = returns[name]
        rng = np.random.default_rng(derive_seed(seed, "oracle", name))
        prefs.answers.add(name, choose(left, right, error_rate, rationality, rng), labeller)
    return len(wanted)


def choose(left: float, right: float, error_rate: float, rationality: float, rng: np.random.Generator) -> str:
    """The answer for two returns."""
    by_chance, wrong = rng.random(2)
    if math.isinf(rationality):
        if math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9):
            return "equal"
        prefers_left = left > right
    else:
        prefers_left = by_chance < 1 / (1 + math.exp(float(np.clip(rationality * (right - left), -700, 700))))
    return "left" if prefers_left != (wrong < error_rate) else "right"
