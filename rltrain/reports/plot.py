"""Writes a picture of runs: learning curves, performance profiles or probabilities of improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rltrain.errors import RLTrainError
from rltrain.registry import find_env
from rltrain.reports.curves import read_curve
from rltrain.reports.figure import check_format, write_figure
from rltrain.reports.learning_curves import draw_curves
from rltrain.reports.scores import draw_improvements, draw_profiles, read_scores
from rltrain.runs.summary import RunSummary, read_run

KINDS = {"curves": "learning_curves.png", "profile": "performance_profile.png", "improvement": "improvement.png"}
"""The kinds of pictures, and the files that they are written to unless told otherwise."""


def plot_run(run: Path, thresholds: Mapping[str, float]) -> Path | None:
    """Draws the learning curve of one run into its folder; see :func:`plot`.

    Returns:
        The path of the picture; None if the run has logged a single point, of which nothing can be seen.
    """
    summary = read_run(run)
    curve = read_curve(summary)
    if max(len(curve.x), len(curve.eval_x)) == 1:
        return None
    return plot([summary], None, thresholds=thresholds)


def plot(
    runs: Sequence[RunSummary],
    out: Path | None = None,
    *,
    kind: str = "curves",
    x: str = "steps",
    metric: str | None = None,
    each: bool = False,
    thresholds: Mapping[str, float] | None = None,
) -> Path:
    """Draws runs into one picture; runs that are equal in everything but the seed are one group.

    Args:
        runs: The runs, at least one, all of which have settings.
        out: The PNG, SVG or PDF to write. If None: ``learning_curve.png`` in the folder of a single run, and a name of
            :data:`KINDS` in the current folder otherwise.
        kind: ``curves``, ``profile`` or ``improvement``.
        x: ``steps`` or ``time``, for curves.
        metric: The metric to draw; None for returns.
        each: Whether to draw every run rather than the middle of a group, for curves.
        thresholds: The return at which a task counts as solved, by environment; None to look it up.

    Returns:
        The path of the picture.

    Raises:
        ConfigError: There is nothing to draw, or the picture cannot be written.
    """
    if out is None:
        single = kind == "curves" and len(runs) == 1
        out = runs[0].path / "learning_curve.png" if single else Path(KINDS[kind])
    check_format(out)
    if kind == "curves":
        known = thresholds_of(runs) if thresholds is None else thresholds
        figure = draw_curves(runs, known, x=x, metric=metric, each=each)
    else:
        what = "mean return of the evaluation at the end" if metric is None else f"last {metric}"
        draw = draw_profiles if kind == "profile" else draw_improvements
        figure = draw(read_scores(runs, metric), what)
    write_figure(figure, out)
    return out


def thresholds_of(runs: Sequence[RunSummary]) -> dict[str, float]:
    """The return at which a task counts as solved, by environment, of those that are known here and have one.

    It is that of the environment's own constants, so that it is left out where all runs have others.
    """
    found = {}
    for env in {run.env for run in runs if not any(name.startswith("env.kwargs.") for name in run.settings)}:
        with suppress(RLTrainError):  # the packages of the environment may not be installed here
            spec = find_env(env)
            if spec is not None and spec.reward_threshold is not None:
                found[env] = spec.reward_threshold
    return found
