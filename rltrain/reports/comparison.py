"""Two sides of runs beside each other: the settings that differ, and the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rltrain.errors import CheckpointError
from rltrain.evaluation.statistics import Array, Interval, interval, iqm_of_tasks, probability_of_improvement
from rltrain.reports.groups import setting_text, settings_of
from rltrain.runs.places import find_runs
from rltrain.runs.summary import RunSummary, read_run

ENOUGH = 2
"""Runs of a side from which on there is an interval."""


@dataclass(frozen=True)
class Scores:
    """The scores of a side in an environment.

    Attributes:
        values: (n,): the mean return of the evaluation at the end of each run.
        iqm: Their interquartile mean.
        interval: Its 95% bootstrap interval; None for a single run.
    """

    values: Array
    iqm: float
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two sides of runs beside each other.

    Attributes:
        settings: The values of each setting that differs between the sides, as text, by name.
        scores: The scores of both sides, by environment that both have; environments without a score are left out.
        improvement: How likely a run of the second side scores higher than one of the first, on any of these
            environments; None where there is none.
        interval: Its 95% bootstrap interval; None if a side has a single run.
        difference: For two single runs, the difference of their mean returns, and its 95% interval over episodes.
    """

    settings: dict[str, tuple[str, str]]
    scores: dict[str, tuple[Scores, Scores]]
    improvement: float | None
    interval: Interval | None
    difference: tuple[float, Interval] | None


def compare(first: Sequence[RunSummary], second: Sequence[RunSummary]) -> Comparison:
    """Compares two sides of runs by their evaluations at the end."""
    settings = {}
    for name in dict.fromkeys(name for run in (*first, *second) for name in settings_of(run)):
        texts = _values(first, name), _values(second, name)
        if texts[0] != texts[1]:
            settings[name] = texts
    scores = {}
    for env in dict.fromkeys(run.env for run in first):
        ours, theirs = (_scores([run.score for run in side if run.env == env]) for side in (first, second))
        if ours is not None and theirs is not None:
            scores[env] = ours, theirs
    tasks = [[pair[side].values for pair in scores.values()] for side in (0, 1)]
    enough = all(len(values) >= ENOUGH for side in tasks for values in side)
    return Comparison(
        settings,
        scores,
        probability_of_improvement(*tasks) if scores else None,
        interval(probability_of_improvement, *tasks) if scores and enough else None,
        _difference(first[0], second[0]) if len(first) == len(second) == 1 and scores else None,
    )


def with_seeds(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """Runs, and those beside them that differ from one of them in the seed alone, each once.

    Raises:
        CheckpointError: A folder that they lie in cannot be read.
    """
    found = {run.path.resolve(): run for run in runs}
    wanted = [settings_of(run) for run in runs]
    for folder in {path.parent for path in found}:
        for path in find_runs(folder):
            if path.resolve() not in found and (other := read_run(path)).settings and settings_of(other) in wanted:
                found[path.resolve()] = other
    return list(found.values())


def check_apart(first: Sequence[RunSummary], second: Sequence[RunSummary]) -> None:
    """Checks that no run is on both sides.

    Raises:
        CheckpointError: One is.
    """
    both = {run.path.resolve() for run in first} & {run.path.resolve() for run in second}
    if both:
        raise CheckpointError(f"'{min(both)}' is on both sides.", "Name two sides that share no run.")


def _values(side: Sequence[RunSummary], name: str) -> str:
    return " or ".join(sorted({setting_text(run.settings, name) for run in side}))


def _scores(found: Sequence[float | None]) -> Scores | None:
    values = np.array([score for score in found if score is not None])
    if not len(values):
        return None
    ends = interval(iqm_of_tasks, [values]) if len(values) >= ENOUGH else None
    return Scores(values, iqm_of_tasks([values]), ends)


def _difference(first: RunSummary, second: RunSummary) -> tuple[float, Interval] | None:
    """The difference of two mean returns, with the interval of the normal approximation for unequal variances."""
    numbers: list[Any] = [run.evaluation.get(key) for run in (first, second) for key in ("std_reward", "episodes")]
    if not all(type(number) in (int, float) and math.isfinite(number) for number in numbers):
        return None
    std, n, other_std, other_n = numbers
    if first.score is None or second.score is None or min(n, other_n) < ENOUGH:
        return None
    difference = second.score - first.score
    half = 1.96 * math.sqrt(std**2 / (n - 1) + other_std**2 / (other_n - 1))
    return difference, (difference - half, difference + half)
