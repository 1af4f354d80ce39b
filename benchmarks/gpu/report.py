"""What came of the rows: a file that is whole at every moment, and a table."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = {
    "steps_per_s": "steps/s",
    "projected_steps_per_s": "projection for an H100",
    "collect_ms": "collect, ms",
    "learn_ms": "learn, ms",
    "peak_mib": "peak, MiB",
}
APART = ("name", "settings", "each", "where", "took_s", "packages", *COLUMNS)
"""What is in columns of its own, or in the file alone."""
LONGEST = 140  # characters of an error in the table; the file has more


class Report:
    """The figures of one run of the command.

    Args:
        folder: Where ``gpu.json`` goes, and ``gpu.md`` with the table at the end.
        about: What they depend on: versions, commit, machine.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self.figures: dict[str, Any] = {**about, "rows": []}
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All so far."""
        return self.figures["rows"]

    @property
    def failed(self) -> list[str]:
        """The names of rows with an error, or whose check did not pass."""
        return [row["name"] for row in self.rows if "error" in row or row.get("passed") is False]

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Keeps the result of a row."""
        self.rows.append({"name": name, **result})
        self.save()

    def update(self, **about: Any) -> None:
        """Keeps more of what the figures depend on."""
        rows = self.figures.pop("rows")
        self.figures |= {**about, "rows": rows}
        self.save()

    def save(self) -> None:
        """Writes the file beside the old one, and puts it in its place."""
        path = self.folder / "gpu.json"
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps(self.figures, indent=1) + "\n")
        os.replace(aside, path)

    def save_table(self) -> str:
        """Writes the table as a file of its own, and returns it."""
        text = table(self.figures)
        (self.folder / "gpu.md").write_text(text)
        return text


def table(figures: dict[str, Any]) -> str:
    """Figures as Markdown, and below them what was left out."""
    about = ", ".join(f"{name} {value}" for name, value in figures.items() if isinstance(value, str | int | float))
    lines = [about, "", line(("row", *COLUMNS.values(), "result")), line("---" for _ in range(2 + len(COLUMNS)))]
    skipped = []
    for row in figures["rows"]:
        if "skipped" in row:
            skipped.append(f"- {row['name']}: {row['skipped']}")
        else:
            lines.append(line((row["name"], *(shown(row.get(name)) for name in COLUMNS), outcome(row))))
    return "\n".join([*lines, *(["", "Skipped:", "", *skipped] if skipped else [])]) + "\n"


def outcome(row: dict[str, Any]) -> str:
    """What a row came to, in words."""
    if "skipped" in row:
        return f"skipped: {row['skipped']}"
    if "error" in row:
        return textwrap.shorten(f"error: {row['error']}".replace("|", "/"), LONGEST, placeholder=" ...")
    words = {True: ["passed"], False: ["FAILED"]}.get(row.get("passed"), [])  # type: ignore[call-overload]
    rest = {name: value for name, value in row.items() if name not in APART and name != "passed"}
    return ", ".join([*words, *(f"{name.replace('_', ' ')} {shown(value)}" for name, value in rest.items())])


def shown(value: Any) -> str:
    """A number, or whatever it is, in a cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1_000 else f"{value:,.0f}"
    if isinstance(value, dict):
        return " ".join(f"{name}: {shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line(cells: Iterable[str]) -> str:
    """One line of the table."""
    return f"| {' | '.join(cells)} |"
