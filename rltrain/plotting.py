"""Learning curves as a picture."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from rltrain.errors import ConfigError
from rltrain.trackers.csv import STEP, read_progress

RETURN, EVALUATION = "rollout/ep_rew_mean", "eval/mean_reward"
BAND_FROM = 3  # runs of a kind from which on they are shown as median and range
COLOURS = ("#2f6fb2", "#d9762b", "#3d9155", "#b8415d", "#7b5ea7", "#5f6b73", "#b59b2c", "#2a9aa0")

Curve = dict[str, np.ndarray]


def plot_runs(run_dirs: Sequence[Path], out: Path | None, *, threshold: float | None = None) -> Path:
    """Draws the mean return of training episodes over environment steps, and evaluations as dots.

    Three or more runs of one agent on one environment become a median with the range around it.

    Args:
        run_dirs: Run folders.
        out: PNG to write; ``learning_curve.png`` in the folder of a single run, ``learning_curves.png`` here
            for several, when None.
        threshold: Return at which the task counts as solved, drawn as a dashed line.

    Returns:
        The picture's path.

    Raises:
        CheckpointError: A run has logged nothing.
        ConfigError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    if out is None:
        out = run_dirs[0] / "learning_curve.png" if len(run_dirs) == 1 else Path("learning_curves.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"'{out}' is no picture: it does not end in .png.", "Name it curve.png.")
    groups = _group(run_dirs)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = iter(COLOURS * len(run_dirs))
    for kind, runs in groups.items():
        if len(runs) >= BAND_FROM:
            colour = next(colours)
            steps, table = _on_one_axis(list(runs.values()))
            axes.plot(steps, np.median(table, 0), color=colour, lw=2, label=f"{kind}, median of {len(runs)} runs")
            axes.fill_between(steps, table.min(0), table.max(0), color=colour, alpha=0.2, lw=0, label="range")
            continue
        for name, curve in runs.items():
            colour = next(colours)
            alone = len(run_dirs) == 1
            label = "training episodes" if alone else f"{kind}, {name}"
            axes.plot(curve[STEP], curve[RETURN], color=colour, lw=1.8, label=label)
            if EVALUATION in curve:
                dots = "evaluation" if alone else None
                axes.plot(curve[STEP], curve[EVALUATION], "o", color=colour, ms=5, mec="white", label=dots)
    if threshold is not None:
        axes.axhline(threshold, color="#555555", lw=1, ls="--", label=f"solved: {threshold:g}")
    axes.set(xlabel="environment steps", ylabel="mean return of an episode")
    axes.set_title(next(iter(groups)) if len(groups) == 1 else "learning curves", loc="left", fontweight="bold")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    temporary = out.with_name(f".writing-{out.name}")
    try:
        figure.savefig(temporary, format="png")
        os.replace(temporary, out)
    except OSError as error:
        raise ConfigError(f"'{out}' cannot be written: {error.strerror}.", "Choose another --out.") from error
    return out


def _group(run_dirs: Sequence[Path]) -> dict[str, dict[str, Curve]]:
    """Curves by kind of run, such as ``ppo on rltrain/CartPole-v1``, and by name."""
    groups: dict[str, dict[str, Curve]] = defaultdict(dict)
    for path in run_dirs:
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        curve = {name: np.asarray(column) for name, column in read_progress(path / "progress.csv").items()}
        curve.setdefault(RETURN, np.full(len(curve[STEP]), np.nan))
        name = f"{path} (seed {config['seed']})"
        groups[f"{config['algo']} on {config['env']['id']}"][name] = curve
    return groups


def _on_one_axis(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Steps common to all curves, and the return of each there, by interpolation; a curve that ended holds."""
    known = [~np.isnan(curve[RETURN]) for curve in curves]
    start = max(curve[STEP][k][0] for curve, k in zip(curves, known, strict=True) if k.any())
    steps = np.linspace(start, max(curve[STEP].max() for curve in curves), 300)
    table = [
        np.interp(steps, curve[STEP][k], curve[RETURN][k]) for curve, k in zip(curves, known, strict=True) if k.any()
    ]
    return steps, np.stack(table)
