"""Draws learning curves: a panel for each environment, a line for each group of runs that differ in the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.reports.curves import Curve, band_of, evaluations_of, read_curves, rest_of
from rltrain.reports.figure import add_legend, make_panels, short
from rltrain.reports.groups import Group, group_runs
from rltrain.reports.style import Style, style_of
from rltrain.runs.summary import RunSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH = 0.3
"""How far beyond the curves, as a share of their height, a line of the solved return is still drawn."""
SOLVED: dict[str, Any] = {"color": "#444444", "lw": 1.2, "ls": (0, (5, 4)), "zorder": 1}
UNITS = ((2 * 3600.0, 3600.0, "h"), (180.0, 60.0, "min"), (0.0, 1.0, "s"))


def draw_curves(
    runs: Sequence[RunSummary],
    thresholds: Mapping[str, float],
    *,
    x: str = "steps",
    metric: str | None = None,
    each: bool = False,
) -> Figure:
    """Draws learning curves.

    Groups of three or more runs become their interquartile mean with a bootstrap interval, which ends where the first
    of them ends; the others go on as thin lines.

    Args:
        runs: The runs.
        thresholds: The return at which a task counts as solved, by environment.
        x: ``steps`` or ``time``.
        metric: The metric to draw; None for the return of training episodes with the evaluations beside it.
        each: Whether every run is drawn as a line of its own.

    Raises:
        ConfigError: There is nothing to draw.
    """
    groups = group_runs(runs)
    curves = read_curves(groups, x, metric)
    groups = {env: members for env, members in groups.items() if any(curves[env])}
    labels = list(dict.fromkeys(group.label for members in groups.values() for group in members))
    styles = {text: style_of(index) for index, text in enumerate(labels)}
    figure, panels = make_panels(list(groups))
    drawn = Drawn(alone=len(labels) == 1)
    for axes, (env, members) in zip(panels, groups.items(), strict=True):
        for group, of_group in zip(members, curves[env], strict=True):
            drawn.group(axes, group, of_group, styles[group.label], each)
        axes.margins(x=0.02)
        threshold = thresholds.get(env) if metric in (None, "eval/mean_reward", "rollout/ep_rew_mean") else None
        if threshold is not None:
            drawn.threshold(axes, threshold)
        _label_axes(axes, x, metric or "mean return of an episode")
    drawn.legend(figure, styles, [group for members in groups.values() for group in members])
    return figure


class Drawn:
    """Draws groups, and keeps what of them the legend has to explain.

    Args:
        alone: Whether there is one group, whose line needs no marks to be told from others.
    """

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.bands = self.rests = self.singles = self.evaluations = self.thresholds = False

    def group(self, axes: Axes, group: Group, curves: Sequence[Curve], style: Style, each: bool) -> None:
        """Draws the runs of a group: as a band if there can be one, unless each is asked for."""
        band = None if each else band_of(curves)
        line: dict[str, Any] = {"color": style.colour, "ls": style.dash, "zorder": 3}
        marks: dict[str, Any] = {} if self.alone else {"marker": style.marker, "ms": 4.5}
        if band is not None:
            axes.fill_between(band.x, band.low, band.high, color=style.colour, alpha=0.18, lw=0, zorder=2)
            spread = (0.0, 0.12) if marks else None  # marks at equal distances along the line
            axes.plot(band.x, band.middle, **line, **marks, lw=2, markevery=spread)
            self.bands = True
            for curve in curves:
                x, y = rest_of(curve, band)
                if len(x):
                    axes.plot(x, y, **{**line, "zorder": 2}, lw=0.9, alpha=0.75)
                    self.rests = True
        else:
            for curve in curves:
                point = {"marker": style.marker, "ms": 4.5} if len(curve.x) == 1 else marks  # a point makes no line
                spread = (0.0, 0.12) if marks and len(curve.x) > 1 else None
                axes.plot(curve.x, curve.y, **line, **point, lw=1.6, markevery=spread)
                self.singles = self.singles or len(curve.x) > 0
        self._evaluations(axes, curves, style, each)

    def _evaluations(self, axes: Axes, curves: Sequence[Curve], style: Style, each: bool) -> None:
        shared, single = evaluations_of(curves, each)
        dots: dict[str, Any] = {
            "ls": "", "marker": style.marker, "color": style.colour, "mfc": "white", "zorder": 4
        }  # fmt: skip
        if shared:
            x, middle, low, high = np.transpose(shared)
            axes.errorbar(x, middle, (middle - low, high - middle), **dots, ms=6.5, mew=1.6, elinewidth=1.1)
        if single:
            small = len(single) > 12
            axes.plot(*zip(*single, strict=True), **dots, ms=4 if small else 6, mew=1 if small else 1.6)
        self.evaluations = self.evaluations or bool(shared or single)

    def threshold(self, axes: Axes, value: float) -> None:
        """Draws the line of the solved return, unless it is so far away that the curves would shrink for it."""
        low, high = axes.get_ylim()
        room = REACH * (high - low)
        inside = low - room <= value <= high + room
        where = "" if inside else ", above" if value > high else ", below"
        axes.set_title(f"solved: {value:,g}{where}", loc="right", fontsize=9, color="#555555", pad=10)
        if inside:
            axes.axhline(value, **SOLVED)
            axes.set_ylim(min(low, value - 0.04 * (high - low)), max(high, value + 0.04 * (high - low)))
            self.thresholds = True
        else:
            axes.set_ylim(low, high)

    def legend(self, figure: Figure, styles: Mapping[str, Style], groups: Sequence[Group]) -> None:
        """Draws the legend, with a line that says how to read what was drawn."""
        from matplotlib.lines import Line2D

        entries = {}
        for text, style in styles.items():
            numbers = sorted({len(group.runs) for group in groups if group.label == text})
            count = " to ".join(map(str, {numbers[0]: 0, numbers[-1]: 0}))
            seeds = [str(run.seed) for group in groups if group.label == text for run in group.runs]
            which = f"seed {seeds[0]}" if len(seeds) == 1 else f"{count} run{'s' if numbers[-1] > 1 else ''}"
            marker = "" if self.alone else style.marker
            entries[f"{text} ({which})"] = Line2D([], [], color=style.colour, ls=style.dash, lw=2, marker=marker, ms=5)
        if self.evaluations:
            colour = next(iter(styles.values())).colour if self.alone else "#555555"
            entries["evaluation"] = Line2D([], [], ls="", marker="o", color=colour, mfc="white", ms=6.5, mew=1.6)
        if self.thresholds:
            entries["solved"] = Line2D([], [], color=SOLVED["color"], lw=1.2, ls=(0, (5, 4)))
        notes = ["Lines: interquartile mean over runs; bands and bars: 95% bootstrap interval."] if self.bands else []
        if self.rests:
            notes.append("A band ends with its first run; thin lines: the other runs.")
        if self.singles and self.bands:
            notes.append("Groups of fewer than three runs: a line for each run.")
        add_legend(figure, entries, " ".join(notes))


def _label_axes(axes: Axes, x: str, y: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if x == "time":
        longest = axes.get_xlim()[1]
        _, unit, name = next(each for each in UNITS if longest >= each[0] or each[1] == 1.0)
        axes.set_xlabel(f"training time ({name})", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 1.5, 2, 3, 5, 6, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds / unit:g}"))
    else:
        axes.set_xlabel("environment steps", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: short(steps)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_ylabel(y, fontsize=9)
