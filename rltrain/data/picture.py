"""Draws what a dataset holds: returns, lengths, actions, and which observations it covers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, leaves_of
from rltrain.data.dataset import Dataset
from rltrain.data.layout import unwritable
from rltrain.data.summary import sample_steps
from rltrain.errors import ConfigError, plain
from rltrain.spaces import MASK
from rltrain.storage.making import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#2f6fb2", "#d9762b", "#3d9155", "#b8415d", "#7b5ea7", "#5f6b73", "#b59b2c", "#2a9aa0")
MOST_POLICIES = len(COLOURS)
MOST_NUMBERS = 256  # of an observation that its coverage is computed from
MOST_BARS = 40


def draw_dataset(dataset: Dataset, out: Path) -> Path:
    """Writes a PNG with four panels.

    Raises:
        ConfigError: The file has another ending.
        DatasetError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if out.suffix.lower() != ".png":
        raise ConfigError(f"'{out}' is not a PNG.", "Give the file a name that ends in .png.")
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches
    canvas = FigureCanvasAgg(Figure(figsize=(10, 7), dpi=130, layout=layout))
    axes = canvas.figure.subplots(2, 2)
    count = f"{len(dataset.episodes):,} episodes, {len(dataset):,} steps"
    canvas.figure.suptitle(f"{_label(dataset.name)}: {count}", x=0.01, ha="left", fontsize=13, fontweight="bold")
    steps = sample_steps(dataset)
    policy_of = dataset.episodes.policy[np.searchsorted(dataset.episodes.end, steps, side="right")]
    _histogram(axes[0, 0], dataset, dataset.episodes.returns, "return of an episode")
    _histogram(axes[0, 1], dataset, dataset.episodes.length, "steps of an episode")
    _actions(axes[1, 0], dataset, steps, policy_of)
    _coverage(axes[1, 1], dataset, steps, policy_of)
    for each in axes.flat:
        each.grid(color="#e4e7eb", lw=0.8)
        each.set_axisbelow(True)
        each.spines[["top", "right"]].set_visible(False)
        each.spines[["left", "bottom"]].set_color("#9aa1a9")
    if len(_shown(dataset)) > 1:
        axes[0, 0].legend(fontsize=9, framealpha=0.8, edgecolor="none")
    try:
        with replacing(out) as temporary:
            canvas.print_png(temporary)
    except OSError as error:
        raise unwritable(out, error) from error
    return out


def _shown(dataset: Dataset) -> list[tuple[int, str, str]]:
    """Index, name and colour of the policies that are drawn apart; one for all if they are many."""
    if len(dataset.policies) > MOST_POLICIES:
        return [(-1, "all policies", COLOURS[0])]
    return [(i, _label(str(each["name"])), COLOURS[i]) for i, each in enumerate(dataset.policies)]


def _histogram(axes: Axes, dataset: Dataset, values: np.ndarray, label: str) -> None:
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 1.0)
    edges = np.linspace(low, high, 31) if high > low else np.array([low - 0.5, low + 0.5])
    shown = _shown(dataset)
    parts = [values[finite & ((dataset.episodes.policy == i) | (i < 0))] for i, _, _ in shown]
    axes.hist(
        parts,
        edges.tolist(),
        stacked=True,
        color=[colour for _, _, colour in shown],
        label=[name for _, name, _ in shown],
    )
    axes.set_xlabel(label)
    axes.set_ylabel("episodes")


def _actions(axes: Axes, dataset: Dataset, steps: np.ndarray, policy_of: np.ndarray) -> None:
    (name, space), *others = leaves_of(dataset.action_space, ACTION).items()
    taken, shown = dataset.take(name, steps), _shown(dataset)
    more = f" (of {1 + len(others)} parts the first)" if others else ""
    if isinstance(space, spaces.Discrete) and space.n <= MOST_BARS:
        choices = int(space.start) + np.arange(int(space.n))
        below = np.zeros(len(choices))
        for index, _, colour in shown:
            mine = taken[(policy_of == index) | (index < 0)]
            share = np.array([(mine == choice).sum() for choice in choices]) / len(taken)
            axes.bar(choices, share, bottom=below, color=colour, width=0.8)
            below += share
        axes.set_xlabel(f"action{more}")
        axes.set_ylabel("share of steps")
        axes.set_xticks(choices if len(choices) <= 20 else choices[:: len(choices) // 10])
        return
    columns = taken.reshape(len(taken), -1).astype(np.float64)[:, : len(COLOURS)]
    for number, column in enumerate(columns.T):
        finite = column[np.isfinite(column)]
        axes.hist(finite, 40, histtype="step", lw=1.6, color=COLOURS[number], label=f"number {number}")
    axes.set_xlabel(f"action{more}")
    axes.set_ylabel("steps")
    if columns.shape[1] > 1:
        axes.legend(fontsize=8, framealpha=0.8, edgecolor="none")


def _coverage(axes: Axes, dataset: Dataset, steps: np.ndarray, policy_of: np.ndarray) -> None:
    """The two directions in which observations differ most, each number scaled to deviation 1."""
    table = np.concatenate(list(_numbers(dataset, steps)) or [np.zeros((len(steps), 0))], 1)
    table = table[:, np.isfinite(table).all(0)]
    deviation = table.std(0)
    table = (table - table.mean(0))[:, deviation > 1e-9] / deviation[deviation > 1e-9]
    if table.shape[1] < 1:
        axes.text(0.5, 0.5, "observations do not differ", ha="center", transform=axes.transAxes, color="#5f6b73")
        return
    _, sizes, directions = np.linalg.svd(table[:4000], full_matrices=False)
    places = table @ directions[:2].T
    if places.shape[1] == 1:
        places = np.concatenate([places, np.zeros_like(places)], 1)
    order = np.random.default_rng(0).permutation(len(places))[:8000]
    shown = _shown(dataset)
    colours = np.array([colour for _, _, colour in shown])[np.where(policy_of < len(shown), policy_of, 0)]
    first, second = places[order].T
    axes.scatter(first, second, s=4, lw=0, alpha=0.35, c=colours[order], rasterized=True)
    share = (sizes[:2] ** 2).sum() / (sizes**2).sum()
    axes.set_xlabel(f"observations: main direction ({share:.0%} of the variance in both)")
    axes.set_ylabel("second direction")


def _numbers(dataset: Dataset, steps: np.ndarray) -> Any:
    """The numbers of observations as a table, at most :data:`MOST_NUMBERS` of each column; categories one by one."""
    for name, space in leaves_of(dataset.observation_space, OBS).items():
        if name == f"{OBS}.{MASK}" or isinstance(space, spaces.Text):
            continue
        flat = dataset.take(name, steps).reshape(len(steps), -1)
        if isinstance(space, spaces.Discrete) and space.n <= MOST_NUMBERS:
            yield np.eye(int(space.n))[np.clip(flat[:, 0] - int(space.start), 0, int(space.n) - 1)]
        else:
            yield flat[:, :: max(1, flat.shape[1] // MOST_NUMBERS)].astype(np.float64)


def _label(text: str) -> str:
    return plain(text)[:60].replace("$", r"\$")
