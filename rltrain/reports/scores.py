"""Scores of groups of runs, and pictures of them: performance profiles and probabilities of improvement."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from rltrain.errors import ConfigError
from rltrain.evaluation.statistics import (
    Array,
    Interval,
    interval,
    performance_profile,
    probability_of_improvement,
    profile_band,
)
from rltrain.reports.figure import add_legend, label, make_panels
from rltrain.reports.groups import group_runs
from rltrain.reports.style import INK, style_of
from rltrain.runs.summary import RunSummary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Scores: TypeAlias = Mapping[str, Mapping[str, Array]]
"""A score of each run, (n,), by environment and label of the group."""
MOST_PAIRS = 60
THRESHOLDS = 300
"""Points of a performance profile."""


class Improvement(NamedTuple):
    """How likely a run of one group scores higher than one of another, in the environments that both have."""

    better: str
    than: str
    probability: float
    interval: Interval
    environments: int


def read_scores(runs: Sequence[RunSummary], metric: str | None = None) -> Scores:
    """A score of each run: the evaluation at the end, or the last value of a metric.

    A run without one is named in a warning and left out.

    Raises:
        ConfigError: None has one.
    """
    scores: dict[str, dict[str, Array]] = {}
    without = []
    for env, members in group_runs(runs).items():
        for group in members:
            found = {run.path: run.score if metric is None else run.last(metric) for run in group.runs}
            without += [path for path, score in found.items() if score is None]
            if known := [score for score in found.values() if score is not None]:
                scores.setdefault(env, {})[group.label] = np.array(known)
    if not scores:
        raise ConfigError(
            f"None of the runs has {'an evaluation at the end' if metric is None else f'logged {metric!r}'}.",
            "Let them finish, or name another metric, such as --metric rollout/ep_rew_mean.",
        )
    for path in without:
        what = "it has no evaluation at the end" if metric is None else f"it has logged no '{metric}'"
        warnings.warn(f"'{path}' has no score: {what}.", stacklevel=3)
    return scores


def improvement(scores: Scores, better: str, than: str) -> Improvement | None:
    """How likely a run of one group scores higher than one of the other; None if they share no environment."""
    shared = [groups for groups in scores.values() if better in groups and than in groups]
    if not shared:
        return None
    ours, theirs = [groups[better] for groups in shared], [groups[than] for groups in shared]
    ends = interval(probability_of_improvement, theirs, ours)
    return Improvement(better, than, probability_of_improvement(theirs, ours), ends, len(shared))


def draw_profiles(scores: Scores, what: str) -> Figure:
    """Draws performance profiles: the share of the runs of each group that score more than each value."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    labels = list(dict.fromkeys(text for groups in scores.values() for text in groups))
    entries: dict[str, Any] = {}
    figure, panels = make_panels(list(scores))
    for axes, groups in zip(panels, scores.values(), strict=True):
        every = np.concatenate(list(groups.values()))
        room = 0.03 * (every.max() - every.min()) or 0.03 * max(abs(every.max()), 1.0)
        at = np.linspace(every.min() - room, every.max() + room, THRESHOLDS)
        for text, values in groups.items():
            style = style_of(labels.index(text))
            marker = "" if len(labels) == 1 else style.marker
            line: dict[str, Any] = {"color": style.colour, "ls": style.dash, "lw": 2, "marker": marker, "ms": 4.5}
            if len(values) > 1:
                axes.fill_between(at, *profile_band(values, at), color=style.colour, alpha=0.15, lw=0, step="post")
            axes.plot(at, performance_profile(values, at), **line, markevery=(0.0, 0.15), drawstyle="steps-post")
            entries.setdefault(f"{text} ({len(values)} run{'s' if len(values) > 1 else ''})", Line2D([], [], **line))
        axes.set_xlabel(f"score s: {what}", fontsize=9)
        axes.set_ylabel("runs that score more than s", fontsize=9)
        axes.set_ylim(-0.03, 1.03)
        axes.margins(x=0.01)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    add_legend(figure, entries, "Bands: 95% bootstrap interval. The higher and the further to the right, the better.")
    return figure


def draw_improvements(scores: Scores, what: str) -> Figure:
    """Draws, for each pair of groups, how likely a run of the one scores higher than one of the other.

    Raises:
        ConfigError: There are no two groups in one environment, or too many pairs.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import PercentFormatter

    labels = list(dict.fromkeys(text for groups in scores.values() for text in groups))
    pairs = list(combinations(labels, 2))
    if len(pairs) > MOST_PAIRS:
        raise ConfigError(
            f"{len(labels)} groups make {len(pairs)} pairs, and {MOST_PAIRS} fit into a picture.", "Name fewer runs."
        )
    found = []
    for first, second in pairs:
        one = improvement(scores, first, second)
        if one is not None and one.probability < 0.5:
            one = improvement(scores, second, first)
        if one is not None:
            found.append(one)
    if not found:
        raise ConfigError(
            "No environment has two groups of runs with scores, and one alone can be no improvement.",
            "Name runs that differ in more than the seed.",
        )
    figure, (axes,) = make_panels(["Probability of improvement"], height=1.2 + 0.55 * len(found))
    for row, one in enumerate(reversed(found)):
        axes.plot(one.interval, (row, row), color=style_of(0).colour, lw=7, alpha=0.3, solid_capstyle="butt")
        axes.plot([one.probability], [row], color=style_of(0).colour, marker="o", ls="", ms=7)
    axes.axvline(0.5, color="#444444", lw=1.2, ls=(0, (5, 4)), zorder=1)
    axes.set_yticks(range(len(found)), [_row(one, len(scores)) for one in reversed(found)], color=INK)
    axes.set_ylim(-0.6, len(found) - 0.4)
    axes.set_xlim(-0.02, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("how likely a run of the first scores higher than one of the second", fontsize=9)
    entries = {
        "estimate": Line2D([], [], color=style_of(0).colour, marker="o", ls="", ms=7),
        "95% bootstrap interval": Line2D([], [], color=style_of(0).colour, lw=7, alpha=0.3),
        "no difference": Line2D([], [], color="#444444", lw=1.2, ls=(0, (5, 4))),
    }
    add_legend(figure, entries, f"Score: {what}. Ties count half; environments count alike.")
    return figure


def _row(one: Improvement, environments: int) -> str:
    where = f"\n({one.environments} of {environments} environments)" if one.environments < environments else ""
    first, second = ("\n".join(textwrap.wrap(label(text), 40)) for text in (one.better, one.than))
    return f"{first}\nbetter than {second}{where}"
