"""The curves of runs over steps or time, and the middle of several with its interval."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rltrain.errors import CheckpointError, ConfigError, did_you_mean
from rltrain.evaluation.statistics import Array, iqm, iqm_band
from rltrain.reports.groups import Group
from rltrain.runs.summary import EVALUATION_RETURN, TRAINING_RETURN, RunSummary
from rltrain.trackers.csv import STEP

BAND_FROM = 3
"""Runs of a group from which on their interquartile mean is drawn rather than each of them."""
MOST_POINTS = 400
"""Points at which a band is computed."""
TIME = "time/time_elapsed"
AXES = {"steps": STEP, "time": TIME}


class Curve(NamedTuple):
    """The curve of a run. The arrays hold no NaN."""

    x: Array  # (n,) environment steps, or seconds of training
    y: Array  # (n,)
    eval_x: Array  # (m,)
    eval_y: Array  # (m,) mean return of an evaluation's episodes


class Band(NamedTuple):
    """The interquartile mean of several curves, as far as all of them go, with the ends of its interval; (k,) each."""

    x: Array
    middle: Array
    low: Array
    high: Array


class Point(NamedTuple):
    """The interquartile mean of evaluations at the same steps, with the ends of its interval."""

    x: float
    middle: float
    low: float
    high: float


def read_curves(groups: Mapping[str, Sequence[Group]], x: str, metric: str | None) -> dict[str, list[list[Curve]]]:
    """The curves of groups of runs by environment, in the same order.

    A run that has logged nothing of the metric is named in a warning, and has no curve.

    Args:
        groups: The groups by environment.
        x: ``steps`` or ``time``.
        metric: The metric to draw; None for the return of training episodes with the evaluations beside it.

    Raises:
        ConfigError: None of the runs has it.
        CheckpointError: The table of none can be read.
    """
    curves: dict[str, list[list[Curve]]] = {}
    without = []
    for env, members in groups.items():
        curves[env] = []
        for group in members:
            found = [(run, read_curve(run, x, metric)) for run in group.runs]
            curves[env].append([curve for _, curve in found if len(curve.x) or len(curve.eval_x)])
            without += [run for run, curve in found if not len(curve.x) and not len(curve.eval_x)]
    if not any(curve for members in curves.values() for curve in members):
        if unread := [run.no_progress for run in without if run.no_progress]:
            fix = "Name a run folder whose training has logged something, with the tracker csv."
            raise CheckpointError(unread[0], fix)
        runs = [run for members in groups.values() for group in members for run in group.runs]
        if metric is None:
            raise ConfigError("No episode has finished in any of the runs yet.", "Train for longer.")
        known = sorted({tag for run in runs for tag in run.progress if tag != STEP})
        listing = f"They have: {', '.join(known)}." if known else "Train with the tracker csv, which keeps them."
        raise ConfigError(f"None of the runs has logged '{metric}'.", did_you_mean(metric, known, listing))
    for run in without:
        what = "No episode has finished." if metric is None else f"It has logged no '{metric}'."
        warnings.warn(f"'{run.path}' has no curve. {run.no_progress or what}", stacklevel=3)
    return curves


def read_curve(run: RunSummary, x: str = "steps", metric: str | None = None) -> Curve:
    """The curve of a run, without points if it has none; see :func:`read_curves`."""
    columns = {name: np.array(values, dtype=np.float64) for name, values in run.progress.items()}
    steps = columns.get(STEP, np.empty(0))
    axis = steps
    if x == "time":  # which not every row has
        seconds = columns.get(TIME, np.empty(0))
        known = np.isfinite(seconds)
        axis = np.interp(steps, steps[known], np.maximum.accumulate(seconds[known])) if known.any() else steps[:0]
    points: list[Array] = []
    for tag in (TRAINING_RETURN, EVALUATION_RETURN) if metric is None else (metric, None):
        values = columns.get(tag) if tag is not None and len(axis) else None
        finite = np.isfinite(values) if values is not None else np.zeros(0, dtype=bool)
        points += [axis[finite], values[finite]] if values is not None else [np.empty(0), np.empty(0)]
    return Curve(*points)


def band_of(curves: Sequence[Curve]) -> Band | None:
    """The interquartile mean of curves and its interval, from where all have begun to where the first ends.

    Between its points a curve is a straight line.

    Returns:
        None for fewer than :data:`BAND_FROM` curves, or where they never run side by side.
    """
    curves = [curve for curve in curves if len(curve.x)]
    if len(curves) < BAND_FROM:
        return None
    first, last = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if first >= last:
        return None
    x = np.unique(np.concatenate([[first, last], *(curve.x for curve in curves)]))
    x = x[(x >= first) & (x <= last)]
    if len(x) > MOST_POINTS:
        x = np.linspace(first, last, MOST_POINTS)
    values = np.stack([np.interp(x, curve.x, curve.y) for curve in curves])
    return Band(x, iqm(values), *iqm_band(values))


def rest_of(curve: Curve, band: Band) -> tuple[Array, Array]:
    """The part of a curve after the end of a band, joined to it; empty if there is none."""
    end = band.x[-1]
    later = curve.x > end
    if not later.any():
        return np.empty(0), np.empty(0)
    return (
        np.concatenate([[end], curve.x[later]]),
        np.concatenate([[np.interp(end, curve.x, curve.y)], curve.y[later]]),
    )


def evaluations_of(curves: Sequence[Curve], each: bool = False) -> tuple[list[Point], list[tuple[float, float]]]:
    """The evaluations of a group of runs.

    Args:
        curves: The curves of the runs.
        each: Whether each stands for itself.

    Returns:
        The middle of those that all runs have made at the same x, and the single ones elsewhere.
    """
    at: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in zip(curve.eval_x, curve.eval_y, strict=True):
            at.setdefault(float(x), []).append(float(y))
    shared, single = [], []
    for x in sorted(at):
        if len(at[x]) == len(curves) >= BAND_FROM and not each:
            values = np.array(at[x])[:, None]
            low, high = iqm_band(values)
            shared.append(Point(x, float(iqm(values)[0]), float(low[0]), float(high[0])))
        else:
            single += [(x, y) for y in at[x]]
    return shared, single
