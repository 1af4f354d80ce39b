"""What a sweep leaves: the best settings as a file, all trials as a table, and a picture."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rltrain.search.request import OF_THE_MACHINE, SweepRequest
from rltrain.search.study import ERROR, scores_of
from rltrain.storage.files import write_atomically

if TYPE_CHECKING:
    import optuna

BEST, TABLE, PICTURE = "best.yaml", "trials.csv", "sweep.png"


def best_of(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The trial with the highest value; None if none is complete."""
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
    return max(done, key=lambda trial: trial.value or 0.0, default=None)


def write_best(request: SweepRequest, trial: optuna.trial.FrozenTrial) -> Path:
    """Writes the settings of a trial as a file for ``rltrain train --config``."""
    settings = request.config(trial.params).model_dump(mode="json")
    kept = {name: value for name, value in settings.items() if name not in (*OF_THE_MACHINE, "eval_freq")}
    scores = ", ".join(f"{score:.1f}" for score in scores_of(trial).values())
    head = (
        f"# Trial {trial.number} of a sweep, the best of {request.trials}: mean score {trial.value:.1f} ({scores}).\n"
        "# The best of many is flattered by chance: judge it by seeds that the sweep has not seen.\n"
    )
    path = request.out / BEST
    write_atomically(path, head + yaml.safe_dump(kept, sort_keys=False))
    return path


def write_table(request: SweepRequest, study: optuna.Study) -> Path:
    """Writes a row for each trial."""
    names = [parameter.name for parameter in request.space.parameters]
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["trial", "state", "value", "seconds", *names, "error"])
    for trial in study.get_trials(deepcopy=False):
        seconds = f"{trial.duration.total_seconds():.1f}" if trial.duration is not None else ""
        value = "" if trial.value is None else trial.value
        params = [trial.params.get(name, "") for name in names]
        rows.writerow(
            [trial.number, trial.state.name.lower(), value, seconds, *params, trial.user_attrs.get(ERROR, "")]
        )
    path = request.out / TABLE
    write_atomically(path, buffer.getvalue())
    return path


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each parameter decides of a trial's score, most first, as shares of 1; empty if it is not known yet.

    By PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255). Parameters that only some trials have are left out.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError, ZeroDivisionError):  # too few trials, or all alike
        return {}
    return {name: share for name, share in found.items() if share == share}


def draw(request: SweepRequest, study: optuna.Study) -> Path | None:
    """Draws the scores of all trials, the importances, and the score over the parameters that matter most.

    Returns:
        The picture; None if no trial is complete.
    """
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in ("COMPLETE", "PRUNED")]
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    if not done:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from rltrain.evaluation.files import writing

    shares = importances(study) or dict.fromkeys(done[0].params, 0.0)
    shown = list(shares)[:4]
    figure = Figure(figsize=(11, 6.6), dpi=130, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1)
    above, below = parts
    history, bars = above.subplots(1, 2)
    figure.suptitle(
        f"{request.algo} on {request.env}: {len(done)} trials trained to the end, {len(trials) - len(done)} pruned",
        x=0.01, ha="left", fontsize=13, fontweight="bold", color="#222222",
    )  # fmt: skip
    _history(history, trials)
    _bars(bars, shares)
    for axes, name in zip(below.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
        _slice(axes, request, name, trials)
    below.axes[0].set_ylabel("score")
    path = request.out / PICTURE
    with writing(path) as temporary:
        canvas.print_png(temporary)
    return path


BLUE, ORANGE, GREY = "#2f6fb2", "#d9762b", "#9aa1a9"


def _plain_axes(axes: Any) -> None:
    axes.grid(color="#e4e7eb", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(color=GREY, labelcolor="#333333", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def _points(axes: Any, xs: Sequence[Any], trials: Sequence[Any]) -> None:
    """The trials as points: full circles for those trained to the end, crosses at the last evaluation of others."""
    for state, marker, colour, label in (("PRUNED", "x", GREY, "pruned"), ("COMPLETE", "o", BLUE, "to the end")):
        some = [(x, t.value) for x, t in zip(xs, trials, strict=True) if t.state.name == state and t.value is not None]
        if some:
            axes.plot(
                *zip(*some, strict=True), ls="", marker=marker, ms=5, mec=colour, mfc=colour, alpha=0.75, label=label
            )


def _history(axes: Any, trials: Sequence[Any]) -> None:
    _plain_axes(axes)
    _points(axes, [trial.number for trial in trials], trials)
    done = [trial for trial in trials if trial.state.name == "COMPLETE"]
    best = [max(each.value for each in done[: k + 1]) for k in range(len(done))]
    axes.step([trial.number for trial in done], best, where="post", color=ORANGE, lw=2, label="best so far")
    axes.set_title("Scores", loc="left", fontsize=10)
    axes.set_xlabel("trial")
    axes.set_ylabel("score")
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))


def _bars(axes: Any, shares: dict[str, float]) -> None:
    _plain_axes(axes)
    shown = dict(list(shares.items())[:10][::-1])
    axes.barh([name.removeprefix("agent.") for name in shown], [share * 100 for share in shown.values()], color=BLUE)
    axes.set_title("How much each setting decides", loc="left", fontsize=10)
    axes.set_xlabel("%")


def _slice(axes: Any, request: SweepRequest, name: str, trials: Sequence[Any]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    _plain_axes(axes)
    parameter = next(each for each in request.space.parameters if each.name == name)
    some = [trial for trial in trials if name in trial.params]
    if parameter.kind == "categorical":
        labels = [str(choice) for choice in parameter.values]
        choices = [parameter.setting(trial.params[name]) for trial in some]
        _points(axes, [parameter.values.index(choice) for choice in choices], some)
        axes.set_xticks(range(len(labels)), labels, rotation=30 if max(map(len, labels)) > 4 else 0, ha="center")
        axes.set_xlim(-0.5, len(labels) - 0.5)
    else:
        _points(axes, [trial.params[name] for trial in some], some)
        if parameter.kind.endswith("log"):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=5))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(parameter.values[0] / 1.3, parameter.values[1] * 1.3)
    axes.set_xlabel(name.removeprefix("agent."))
