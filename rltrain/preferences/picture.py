"""Draws how good the reward models are, and what became of the true return while a policy followed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rltrain.errors import CheckpointError
from rltrain.preferences.clips import true_returns
from rltrain.preferences.folder import RUNS, Preferences
from rltrain.preferences.summary import sums_of
from rltrain.reports.curves import read_curve
from rltrain.reports.figure import add_legend, check_format, make_panels, write_figure
from rltrain.reports.style import COLOURS, LINES
from rltrain.rewards.files import load_reward, read_facts
from rltrain.rewards.wrapper import LEARNED
from rltrain.runs.places import find_runs
from rltrain.runs.summary import RunSummary, read_run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

TRUE_COLOUR, LEARNED_COLOUR = COLOURS[0], COLOURS[1]


def draw_preferences(prefs: Preferences, out: Path) -> Path:
    """Writes a picture with four panels, empty ones where there is nothing to draw yet.

    Raises:
        ConfigError: The file has another ending, or cannot be written.
        DatasetError: The folder is damaged.
    """
    check_format(out)
    names = ["held-out accuracy", "calibration of the newest model", "clips: learned against true return"]
    figure, panels = make_panels([*names, "training: true and learned reward"], height=3.6)
    _accuracy(panels[0], prefs)
    _calibration(panels[1], prefs)
    _clips(panels[2], prefs)
    runs = [read_run(path) for path in (find_runs(prefs.path / RUNS) if (prefs.path / RUNS).is_dir() else [])]
    legend = draw_training(panels[3], runs)
    if legend:
        add_legend(figure, legend, "A learned reward that rises while the true return falls is followed too far.")
    write_figure(figure, out)
    return out


def draw_training(axes: Axes, runs: Sequence[RunSummary]) -> dict[str, Artist]:
    """Draws the true return and the learned reward of runs that followed each other; returns what the legend names."""
    axes.set_xlabel("environment steps, all rounds")
    before, drawn = 0.0, 0
    legend: dict[str, Any] = {}
    other = axes.twinx()
    other.spines[["top", "left"]].set_visible(False)
    for run in runs:
        true, learned = read_curve(run), read_curve(run, metric=f"info/{LEARNED}")
        if len(true.x):
            legend["true return of an episode"] = axes.plot(before + true.x, true.y, color=TRUE_COLOUR, lw=1.8)[0]
        if len(learned.x):
            line = other.plot(before + learned.x, learned.y, color=LEARNED_COLOUR, lw=1.4, ls=(0, (6, 2)))
            legend["learned reward of a step, on the scale of its round's model"] = line[0]
        last = max([0.0, *true.x[-1:].tolist(), *learned.x[-1:].tolist()])
        if drawn and last:
            axes.axvline(before, color=LINES, lw=0.8, zorder=1)
        before, drawn = before + last, drawn + bool(last)
    axes.set_ylabel("true return", color=TRUE_COLOUR)
    other.set_ylabel("learned reward", color=LEARNED_COLOUR)
    if not drawn:
        other.set_visible(False)
        _nothing(axes, "no run in the folder")
    return legend


def _accuracy(axes: Axes, prefs: Preferences) -> None:
    found = []
    for path in prefs.models():
        try:
            facts = read_facts(path)
        except CheckpointError:
            continue
        held_out = facts.get("held_out")
        if held_out and held_out["accuracy"] is not None:
            found.append((facts["answers"], held_out["accuracy"]))
    axes.set_xlabel("answers")
    axes.set_ylabel("share of answers foretold")
    if not found:
        return _nothing(axes, "no model with answers held out")
    answers, accuracy = zip(*found, strict=True)
    axes.plot(answers, accuracy, color=COLOURS[0], marker="o", ms=5, lw=1.6)
    axes.axhline(0.5, color=LINES, lw=1, ls=(0, (4, 3)))
    axes.annotate("a coin", (min(answers), 0.5), (0, 4), textcoords="offset points", fontsize=8, color="#555555")
    axes.set_ylim(0.4, 1.02)
    axes.set_xlim(0, max(answers) * 1.05)
    return None


def _calibration(axes: Axes, prefs: Preferences) -> None:
    axes.set_xlabel("chance foretold for the left clip")
    axes.set_ylabel("share that preferred it")
    newest = prefs.newest_model()
    held_out = read_facts(newest).get("held_out") if newest is not None else None
    if not held_out or not held_out["calibration"]:
        return _nothing(axes, "no model with answers held out")
    axes.plot([0, 1], [0, 1], color=LINES, lw=1, ls=(0, (4, 3)))
    bins = held_out["calibration"]
    x, y = [each["foretold"] for each in bins], [each["preferred"] for each in bins]
    size = np.array([each["answers"] for each in bins], np.float64)
    axes.plot(x, y, color=COLOURS[0], lw=1.2)
    axes.scatter(x, y, s=18 + 160 * size / size.max(), color=COLOURS[0], alpha=0.75, lw=0)
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.05, 1.05)
    axes.annotate(
        f"{int(size.sum())} answers, area by number",
        (0.03, 0.93),
        xycoords="axes fraction",
        fontsize=8,
        color="#555555",
    )
    return None


def _clips(axes: Axes, prefs: Preferences) -> None:
    axes.set_xlabel("true return of a clip")
    axes.set_ylabel("learned return")
    newest, rounds = prefs.newest_model(), prefs.rounds()
    if newest is None or not rounds:
        return _nothing(axes, "no model")
    model, _ = load_reward(newest)
    true, learned = [], []
    for each in rounds:
        true.append(true_returns(each.dataset, prefs.segment, each.clips))
        sums = sums_of(each, prefs.segment, model)
        scaled = (sums - prefs.segment * model.shift[:, None, None]) / model.scale[:, None, None]
        learned.append(scaled.mean(0).flatten().numpy())
    x, y = np.concatenate(true), np.concatenate(learned)
    axes.scatter(x, y, s=7, color=COLOURS[0], alpha=0.4, lw=0, rasterized=True)
    if len(x) > 2 and x.std() > 0 and y.std() > 0:
        note = f"correlation {np.corrcoef(x, y)[0, 1]:.3f}"
        axes.annotate(note, (0.03, 0.93), xycoords="axes fraction", fontsize=8, color="#555555")
    return None


def _nothing(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, ha="center", transform=axes.transAxes, color="#5f6b73")
    axes.set_xticks([])
    axes.set_yticks([])
