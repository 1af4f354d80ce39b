"""Figures of small multiples, one panel for each environment, with the legend below them; and their files."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.errors import ConfigError, plain
from rltrain.evaluation.files import writing
from rltrain.reports.style import GRID, INK, LINES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
MOST_PANELS = 64
COLUMNS = 3
LABEL_WIDTH = 56
"""Characters of a line of the legend."""


def check_format(out: Path) -> None:
    """Checks that a picture can be written in the format that its name says.

    Raises:
        ConfigError: There is no such format.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"'{out}' is no name of a picture that can be drawn.", f"Let it end in {', '.join(FORMATS)}.")


def make_panels(names: Sequence[str], height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each name, in rows of three; a single panel is wider.

    Args:
        names: The titles of the panels.
        height: Of a panel in inches.

    Raises:
        ConfigError: There are too many.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if len(names) > MOST_PANELS:
        raise ConfigError(
            f"The runs are of {len(names)} environments, and a picture has {MOST_PANELS} panels at most.",
            "Name fewer folders.",
        )
    columns = min(len(names), COLUMNS) if len(names) != 4 else 2
    rows = math.ceil(len(names) / columns)
    size = (8, height + 1.1) if columns == 1 else (4.4 * columns, height * rows)
    figure = Figure(figsize=size, dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))  # inches
    panels = []
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_title(label(name), loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
        axes.grid(color=GRID, lw=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(color=LINES, labelcolor="#333333", labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(LINES)
        panels.append(axes)
    return figure, panels


def add_legend(figure: Figure, entries: Mapping[str, Artist], note: str = "") -> None:
    """Puts the legend below the panels, where it covers nothing; the figure grows by its height.

    Args:
        figure: The figure.
        entries: What stands for each label.
        note: A line below it that says how to read the picture.
    """
    labels = ["\n".join(textwrap.wrap(label(text), LABEL_WIDTH)) or " " for text in entries]
    longest = max((len(line) for text in labels for line in text.split("\n")), default=1)
    width, height = figure.get_size_inches()
    columns = max(1, min(len(labels), int(width / (0.075 * longest + 0.65))))
    lines = sum(max(text.count("\n") + 1 for text in labels[i : i + columns]) for i in range(0, len(labels), columns))
    notes = textwrap.wrap(note, int(width / 0.078))
    figure.set_size_inches(width, height + 0.19 * lines + 0.16 * len(notes) + 0.2)
    options: dict[str, Any] = {"loc": "outside lower left", "fontsize": 9, "labelcolor": "#333333", "frameon": False}
    made = figure.legend(
        list(entries.values()),
        labels,
        ncols=columns,
        title="\n".join(notes),
        title_fontsize=8,
        alignment="left",
        handlelength=3.2,
        **options,
    )
    made.get_title().set_color("#666666")


def label(text: str) -> str:
    """A text from a file as a label: cut to a length that fits, and without formulas for matplotlib to set."""
    text = " ".join(plain(text).split())
    return (text if len(text) <= 160 else f"{text[:159]}…").replace("$", r"\$").lstrip("_") or "-"


def short(number: float) -> str:
    """A number of steps in few characters, such as 50k or 1.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def write_figure(figure: Figure, out: Path) -> None:
    """Writes a figure as PNG, SVG or PDF, by the ending of the name; the same figure gives the same file.

    Raises:
        ConfigError: It cannot be written.
    """
    check_format(out)
    with writing(out) as temporary:
        temporary.write_bytes(as_bytes(figure, out.suffix.lower()))


def as_bytes(figure: Figure, ending: str) -> bytes:
    """The content of a file with a figure."""
    buffer = BytesIO()
    undated: Any = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(ending, {})
    with quiet():
        figure.savefig(buffer, format=ending[1:], metadata=undated)
    return buffer.getvalue()


@contextmanager
def quiet() -> Iterator[None]:
    """Without matplotlib's warnings about letters that its font lacks, and with names in SVG that stay the same."""
    import matplotlib

    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "rltrain"}):
        warnings.simplefilter("ignore")
        yield
