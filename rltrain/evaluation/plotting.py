"""Plots of learning curves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rltrain.errors import CheckpointError, ConfigError, plain
from rltrain.evaluation.files import writing
from rltrain.settings import YAML_LIMIT, parse_yaml
from rltrain.storage.files import Damaged, read_text
from rltrain.trackers.csv import STEP, read_progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_FROM = 3
"""Number of runs of a kind from which on their median and range are drawn."""

COLOURS = ("#2f6fb2", "#d9762b", "#3d9155", "#b8415d", "#7b5ea7", "#5f6b73", "#b59b2c", "#2a9aa0")

Array: TypeAlias = NDArray[np.float64]


class Curve(NamedTuple):
    """The curve of a run. The arrays hold no NaN."""

    kind: str  # the group of the run, such as "ppo on rltrain/CartPole-v1"
    name: str  # its name within the group
    steps: Array  # (n,) environment steps
    returns: Array  # (n,) mean return of training episodes
    eval_steps: Array  # (m,)
    eval_returns: Array  # (m,) mean return of an evaluation's episodes


def plot_runs(run_dirs: Sequence[Path], out: Path | None = None, *, threshold: float | None = None) -> Path:
    """Draws the mean return of training episodes over environment steps, with evaluations as dots.

    Three or more runs of one algorithm on one environment become their median, and a band from the lowest to the
    highest.

    Args:
        run_dirs: Run folders, at least one.
        out: The PNG to write. If None: ``learning_curve.png`` in the folder of a single run,
            ``learning_curves.png`` here for several.
        threshold: Return at which the task counts as solved, drawn as a dashed line.

    Returns:
        The path of the picture.

    Raises:
        CheckpointError: A run has logged nothing that could be drawn.
        ConfigError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if out is None:
        out = run_dirs[0] / "learning_curve.png" if len(run_dirs) == 1 else Path("learning_curves.png")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"'{out}' is not a PNG.", "Give the file a name that ends in .png.")
    kinds: dict[str, list[Curve]] = defaultdict(list)
    for curve in map(_read, run_dirs):
        kinds[curve.kind].append(curve)

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches
    canvas = FigureCanvasAgg(Figure(figsize=(8, 4.5), dpi=150, layout=layout))
    axes = canvas.figure.add_subplot()
    _draw(axes, kinds)
    if threshold is not None:
        axes.axhline(threshold, color="#444444", lw=1.2, ls=(0, (5, 4)), zorder=1, label=f"solved at {threshold:,g}")
    _decorate(axes, title=next(iter(kinds)) if len(kinds) == 1 else "Learning curves")

    with writing(out) as temporary:
        canvas.print_png(temporary)
    return out


def _draw(axes: Axes, kinds: Mapping[str, Sequence[Curve]]) -> None:
    """Draws every kind of run, each line in its own colour."""
    single = sum(map(len, kinds.values())) == 1
    colours = cycle(COLOURS)
    dots: dict[str, Any] = {"ls": "", "marker": "o", "ms": 6.5, "mfc": "white", "mew": 1.8, "zorder": 4}
    has_dots = False
    for kind, curves in kinds.items():
        prefix = f"{kind}: " if len(kinds) > 1 else ""
        if sum(len(curve.steps) > 0 for curve in curves) >= BAND_FROM:
            colour = next(colours)
            steps, returns = on_one_axis(curves)
            label = f"{prefix}median and range of {len(returns)} runs"
            axes.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.18, lw=0, zorder=2)
            axes.plot(steps, np.median(returns, 0), color=colour, lw=2, zorder=3, label=label)
            continue
        for curve in curves:
            colour = next(colours)
            label = f"training episodes, {curve.name}" if single else f"{prefix}{curve.name}"
            point = "." if len(curve.steps) == 1 else ""  # a single point makes no line
            axes.plot(curve.steps, curve.returns, color=colour, lw=2, marker=point, zorder=3, label=label)
            axes.plot(curve.eval_steps, curve.eval_returns, color=colour, **dots)
            has_dots = has_dots or len(curve.eval_steps) > 0
    if has_dots:
        axes.plot([], [], color=COLOURS[0] if single else "#5f6b73", label="evaluations", **dots)


def _decorate(axes: Axes, title: str) -> None:
    """Draws everything but the data."""
    from matplotlib.ticker import FuncFormatter

    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", color="#222222", pad=10)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("mean return of an episode")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda steps, _: short(steps)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.margins(x=0.02)
    axes.grid(color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(color="#9aa1a9", labelcolor="#333333")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9aa1a9")
    axes.legend(fontsize=9, labelcolor="#333333", framealpha=0.8, edgecolor="none")


def _read(run_dir: Path) -> Curve:
    """The curve of a run.

    Raises:
        CheckpointError: The run has logged nothing that can be drawn.
    """
    columns = {name: np.array(values) for name, values in read_progress(run_dir / "progress.csv").items()}
    points: list[Array] = []
    for tag in ("rollout/ep_rew_mean", "eval/mean_reward"):
        known = np.isfinite(columns[tag]) if tag in columns else np.zeros(len(columns[STEP]), dtype=bool)
        points += [columns[STEP][known], columns[tag][known] if tag in columns else np.empty(0)]
    if not any(map(len, points)):
        raise CheckpointError(f"No episode has finished in '{run_dir}' yet.", "Train for longer.")
    config = _config(run_dir / "config.yaml")
    if config is None:
        return Curve(_label(run_dir.name), _label(run_dir.name), *points)
    kind, name = f"{config['algo']} on {config['env']['id']}", f"{run_dir.name}, seed {config['seed']}"
    return Curve(_label(kind), _label(name), *points)


def _label(text: str) -> str:
    """A name from a file as a label: cut to a length that fits, and without formulas for matplotlib to set."""
    return plain(text)[:100].replace("$", r"\$")


def _config(path: Path) -> dict[str, Any] | None:
    """The configuration, or None if it is missing or incomplete."""
    try:
        config = parse_yaml(read_text(path, YAML_LIMIT), str(path))
        return {"algo": config["algo"], "env": {"id": config["env"]["id"]}, "seed": config["seed"]}
    except (OSError, Damaged, ConfigError, LookupError, TypeError):
        return None


def on_one_axis(curves: Sequence[Curve]) -> tuple[Array, Array]:
    """Interpolates curves linearly at the same steps, from the first step that all of them have.

    A curve that ends before others, because its run reached its goal, keeps its last value.

    Returns:
        The steps (k,) and the returns (n, k) of the n curves that are not empty.
    """
    curves = [curve for curve in curves if len(curve.steps)]
    steps = np.unique(np.concatenate([curve.steps for curve in curves]))
    steps = steps[steps >= max(curve.steps[0] for curve in curves)]
    return steps, np.stack([np.interp(steps, curve.steps, curve.returns) for curve in curves])


def short(number: float) -> str:
    """A number of steps in few characters, such as 50k or 1.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"
