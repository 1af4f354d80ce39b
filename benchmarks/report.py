"""Writes the figures of ``python -m benchmarks`` to ``benchmarks/README.md``, a plot, and a table in the README."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measures, store
from benchmarks.peers import PEERS, SOLVED

PAGE = Path(__file__).parent / "README.md"
README = PAGE.parents[1] / "README.md"
PLOT = store.RESULTS / "peers.png"
BEGIN, END = "<!-- peers: written by python -m benchmarks --page-only -->", "<!-- end of peers -->"
INTRODUCTION = """# rltrain and its peers

Measured by `python -m benchmarks` (`make bench`). The libraries took turns, each turn in a process of its own.
Figures are medians over the turns, with the range in parentheses. Everything runs on the CPU, in float32 except for
the dynamics of Gymnasium's environments. Libraries without a batched CartPole train in Gymnasium's NumPy one. "JAX,
one program" is a loop after PureJaxRL in our own words: environments, rollouts and updates are compiled together, and
an episode that is cut short counts as ended, which spares it the values of last observations. Versions are at the
end, and all figures are in `benchmarks/results`.
"""


def write(figures: dict[str, Any], played: dict[str, Any]) -> None:
    """Writes the page, the plot and the tables in the README.

    Args:
        figures: Of this processor.
        played: Of this processor while it plays one with AVX2 alone; may be empty.
    """
    draw(figures, PLOT)
    PAGE.write_text(page(figures, played))
    README.write_text(with_table(README.read_text(), figures, played))


def with_table(text: str, figures: dict[str, Any], played: dict[str, Any]) -> str:
    """The README with the tables between its two marks."""
    below = (
        "Steps per second of training PPO on CartPole with equal hyperparameters: environments x steps, epochs and "
        "minibatches; compilation is not counted. The last column is the learning time until CartPole is solved, with "
        "settings tuned for each "
        f"library. Medians and ranges, {described(figures, 'training')}, torch "
        f"{figures['measured']['training']['machine']['torch']}. "
        "[The benchmark](benchmarks/README.md) has all measures, hyperparameters and versions."
    )
    parts = [summary(figures), filled(below)]
    if played:
        parts += [filled(f"The same {described(played, 'training')}:"), summary(played)]
    between = "\n\n".join(parts)
    return re.sub(f"{BEGIN}.*?{END}", lambda _: f"{BEGIN}\n\n{between}\n\n{END}", text, flags=re.DOTALL)


def filled(text: str) -> str:
    """A paragraph in lines of at most 118 characters."""
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False)


def page(figures: dict[str, Any], played: dict[str, Any]) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    if PLOT.exists():
        parts.append(f"![Steps per second and seconds to solve](results/{PLOT.name})\n")
    sections = {"stepping": stepping, "training": training, "growth": growth, "solving": solving}
    parts += [section(figures) for measure, section in sections.items() if figures.get(measure)]
    if played:
        parts.append(training(played).replace("## Training", "## Training with AVX2 alone", 1))
    return "\n".join([*parts, hyperparameters(figures), versions(figures), left_out(figures)]).rstrip() + "\n"


def described(figures: dict[str, Any], measure: str) -> str:
    """The machine and the code with which a measure was taken."""
    machine, commit = (figures["measured"][measure][key] for key in ("machine", "commit"))
    parts = [f"on {machine['threads']} of {machine['cores']} cores of an {machine['processor']}"]
    if machine.get("played", "native") == "avx2":
        parts.append("that plays a processor with AVX2 alone")
    return " ".join(parts) + (f", commit {commit[:9]}" if commit else "")


def taken(figures: dict[str, Any], measure: str) -> str:
    """A sentence about how a measure was taken."""
    minutes = figures["measured"][measure].get("minutes")
    return filled(f"Taken {described(figures, measure)}{f', in {minutes:g} minutes' if minutes else ''}.") + "\n\n"


def stepping(figures: dict[str, Any]) -> str:
    """Environment steps per second over the number of environments."""
    points = figures["points"]["stepping"]
    head = ["", *points, "import, s", "start-up at most, s", "peak, MiB"]
    rows = [
        [
            name_of(row),
            *(cell(values(row, "steps_per_second", point)) for point in points),
            cell(imports(row), "{:.1f}"),
            cell([max(every(turn, "start_seconds")) for turn in row["turns"]], "{:.2f}"),
            cell([max(every(turn, "peak_mib")) for turn in row["turns"]]),
        ]
        for row in done(figures["stepping"])
    ]
    return (
        "## Raw stepping\n\nSteps per second of CartPole with random actions, by the number of environments. Start-up "
        "is the time of making them and of the first call, minus a usual call; it includes compilation.\n\n"
        + taken(figures, "stepping")
        + table(head, rows)
    )


def training(figures: dict[str, Any]) -> str:
    """Steps per second of rollout and update together."""
    parts = [
        "## Training\n\nEnvironment steps per second of rollout and update together, with equal hyperparameters. PPO "
        "has two networks with two layers of 64 and tanh each, DQN two layers of 64 (as in RL Zoo: 256) with ReLU, PQN "
        "two layers of 64 with layer normalisation. Start-up is compilation above all; what JAX and torch compiled is "
        "kept between the turns, so its range reaches up to the first time.\n",
        taken(figures, "training"),
    ]
    head = ["", "cores", "steps/s", "rltrain is faster by", "start-up, s", "peak so far, MiB"]
    for point in figures["points"]["training"]:
        found = [row for row in done(figures["training"]) if values(row, "steps_per_second", point)]
        ours: dict[int, float] = {}  # the better of eager and compiled
        for row in found:
            if row["peer"] == "ours":
                ours[row["cores"]] = max(ours.get(row["cores"], 0.0), rate(row, point))
        rows = [
            [
                name_of(row),
                str(row["cores"]),
                cell(values(row, "steps_per_second", point)),
                f"{ours[row['cores']] / rate(row, point):.2f}" if ours and row["peer"] != "ours" else "",
                cell(values(row, "start_seconds", point), "{:.2f}"),
                cell(values(row, "peak_mib", point)),
            ]
            for row in found
        ]
        parts.append(f"### {point}\n\n{table(head, rows)}")
    return "\n".join(parts)


def growth(figures: dict[str, Any]) -> str:
    """How the cost of PPO grows."""
    parts = [
        "## Growth\n\nSteps per second of training PPO as one quantity grows. Everything else is as in the first table "
        "of training: 1,024 environments, width 64, 4 epochs, rollouts of 32 steps, always 4 minibatches.\n",
        taken(figures, "growth"),
    ]
    for what, series in measures.SERIES.items():
        found = {f"{value:,}": measures.point_name(**(measures.BASE | {what: value})) for value in series}
        points = {value: name for value, name in found.items() if name in figures["points"]["growth"]}
        rows = [
            [name_of(row), *(cell(values(row, "steps_per_second", name)) for name in points.values())]
            for row in done(figures["growth"])
        ]
        parts.append(table([what, *points], rows))
    return "\n".join(parts)


def solving(figures: dict[str, Any]) -> str:
    """Seconds and steps until CartPole is solved."""
    head = ["", "learning, s", "steps", "solved", "compilation, s", "import, s", "peak, MiB"]
    rows = [
        [
            name_of(row),
            cell(numbers(row, "seconds"), "{:.2f}"),
            cell(numbers(row, "steps")),
            f"{sum(turn['solved'] for turn in row['turns'])} of {len(row['turns'])}",
            cell(numbers(row, "start_seconds"), "{:.2f}"),
            "" if "prompt" in row["how"] else cell(imports(row), "{:.1f}"),
            cell(numbers(row, "peak_mib")),
        ]
        for row in done(figures["solving"])
    ]
    return (
        f"## Time to solve\n\nCartPole to a mean return of {SOLVED:g} over 100 training episodes, each library "
        "with the settings given below, torch on one thread. Learning is counted from the first step, without import "
        "and compilation. From prompt to prompt is the whole command, with evaluation and plots.\n\n"
        + taken(figures, "solving")
        + table(head, rows)
    )


def hyperparameters(figures: dict[str, Any]) -> str:
    """The hyperparameters of everything."""
    found = {name: point for measure in ("training",) for name, point in figures["points"].get(measure, {}).items()}
    found |= {name_of(row): row["turns"][0]["settings"] for row in done(figures.get("solving", []))}
    lines = [f"- {name}: {', '.join(f'{key} {value}' for key, value in flat(point))}" for name, point in found.items()]
    return "\n".join(["## Hyperparameters\n", *lines, ""]) if lines else ""


def versions(figures: dict[str, Any]) -> str:
    """The installed versions for each peer."""
    rows = [row for measure in measures.MEASURES for row in done(figures.get(measure, []))]
    found = {row["peer"]: row["turns"][-1]["versions"] for row in rows}
    lines = [
        f"- {PEERS[name].title}: {', '.join(f'{key} {value}' for key, value in each.items())}"
        for name, each in found.items()
    ]
    return "\n".join(["## Versions\n", *lines, ""])


def left_out(figures: dict[str, Any]) -> str:
    """Peers that could not be installed, and failures."""
    lines = [f"- {PEERS[name].title} could not be installed: `{reason}`" for name, reason in figures["skipped"].items()]
    lines += [f"- {label} failed: `{reason}`" for label, reason in figures["failed"].items()]
    return "\n".join(["## Left out\n", *lines]) if lines else ""


def summary(figures: dict[str, Any]) -> str:
    """A table of the README: PPO, each peer on its best number of cores."""
    points = [name for name in figures["points"]["training"] if name.startswith("PPO")][:3]  # the page has them all
    solved = done(figures.get("solving", []))
    rows = []
    for name in dict.fromkeys(name_of(row) for row in done(figures["training"])):
        trained = [row for row in done(figures["training"]) if name_of(row) == name]
        best = [max(trained, key=lambda row: rate(row, point)) for point in points]
        cells = [cell(values(row, "steps_per_second", point)) for row, point in zip(best, points, strict=True)]
        seconds = [
            numbers(row, "seconds") for row in solved if PEERS[row["peer"]].title == name and "prompt" not in row["how"]
        ]
        cells.append(cell(min(seconds, key=median), "{:.1f}") if seconds else "")
        rows.append([name, *cells] if solved else [name, *cells[:-1]])
    head = ["", *(point.removeprefix("PPO, ") for point in points), *(["CartPole solved, s"] if solved else [])]
    return table(head, rows).strip()


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plots stepping and growth over environments as lines, and every seed of solving as a dot."""
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    series = {measures.point_name(**(measures.BASE | {"environments": n})): n for n in measures.SERIES["environments"]}
    for axis, measure, places in (
        (left, "stepping", figures["points"].get("stepping", {})),
        (middle, "growth", series),
    ):
        for row in done(figures.get(measure, [])):
            line = {n: rate(row, name) for name, n in places.items() if values(row, "steps_per_second", name)}
            style = {"linewidth": 2.5, "color": "black"} if row["peer"] == "ours" else {}
            axis.plot(list(line), list(line.values()), "o-", label=name_of(row), markersize=3, **style)
        axis.set(xscale="log", yscale="log", xlabel="environments", ylabel="steps/s")
        axis.legend(fontsize=7) if axis.lines else None
    left.set_title("Raw stepping, CartPole")
    middle.set_title("Training PPO, 4 epochs of 4 minibatches")
    rows = done(figures.get("solving", []))[::-1]
    for y, row in enumerate(rows):
        seconds = numbers(row, "seconds")
        color = "black" if row["peer"] == "ours" else "tab:blue"
        right.plot(seconds, [y] * len(seconds), "o", alpha=0.6, color=color)
    right.set_yticks(range(len(rows)), [name_of(row) for row in rows], fontsize=7)
    right.set(title=f"Seconds to a mean return of {SOLVED:g}", xlabel="s", xlim=(0, None))
    figure.savefig(path, dpi=100)
    plt.close(figure)


def name_of(row: dict[str, Any]) -> str:
    """A peer, and the way it was measured."""
    return ", ".join(filter(None, (PEERS[row["peer"]].title, row["how"])))


def done(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that had a turn."""
    return [row for row in rows if row["turns"]]


def values(row: dict[str, Any], key: str, point: str) -> list[float]:
    """A figure of a point over the turns; empty where the peer does not have that point."""
    return [turn["points"][point][key] for turn in row["turns"] if turn["points"].get(point)]


def rate(row: dict[str, Any], point: str) -> float:
    """The median of steps per second."""
    return median(values(row, "steps_per_second", point))


def every(turn: dict[str, Any], key: str) -> list[float]:
    """A figure of all points of a turn."""
    return [point[key] for point in turn["points"].values() if point]


def numbers(row: dict[str, Any], key: str) -> list[float]:
    """A figure over the turns that gave it."""
    return [turn[key] for turn in row["turns"] if turn.get(key) is not None]


def imports(row: dict[str, Any]) -> list[float]:
    """Seconds of importing over the turns."""
    return numbers(row, "import_seconds")


def cell(found: Sequence[float], form: str = "{:,.0f}") -> str:
    """``median (least to greatest)``; large numbers in thousands and millions."""
    if not found:
        return ""
    middle, low, high = median(found), min(found), max(found)
    if form == "{:,.0f}" and middle >= 10_000:
        unit, form = (1e6, "{:.1f}M") if middle >= 1e6 else (1e3, "{:.0f}k")
        middle, low, high = middle / unit, low / unit, high / unit
    shown = form.format(middle)
    return shown if len(found) == 1 else f"{shown} ({form.format(low)} to {form.format(high)})"


def flat(settings: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Settings without their nesting."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value)
        else:
            yield key, value


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
