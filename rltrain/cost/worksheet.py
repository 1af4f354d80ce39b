"""A worksheet that compares ways to act: a policy of one's own, a hosted model, the controller that is there.

It computes with the numbers of a file and nothing else. What the file does not say stays unknown, and no way is
recommended.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rltrain.config import Model
from rltrain.cost.prices import read_yaml
from rltrain.errors import ConfigError, plain
from rltrain.settings import validate

Sensitivity = Literal["public", "internal", "personal", "secret"]
Money = Annotated[float, Field(ge=0)]


class Way(Model):
    """A way to act. None stands for what is not known."""

    once: Money | None = None
    """Before the first decision: work, training, integration."""
    per_day: Money | None = None
    """Whatever is decided: servers, licences, retraining."""
    per_decision: Money | None = None
    """Of each decision."""
    value_per_decision: float | None = None
    """Money that a decision gains, against any standard that is the same for all ways."""
    latency_ms: Annotated[float, Field(ge=0)] | None = None
    """From the question to the action."""
    sends_data: bool | None = None
    """Whether what it decides from is sent to somebody else."""


class Worksheet(Model):
    """What is to be compared."""

    currency: Annotated[str, Field(min_length=1, max_length=8)]
    decisions_per_day: Annotated[float, Field(gt=0)]
    days: Annotated[float, Field(gt=0)] = 365
    """Over which costs are added up."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """That the use allows; none for any."""
    data: Sensitivity | None = None
    """What a decision is made from."""
    may_leave: list[Sensitivity] | None = None
    """Which kinds of data may be sent to somebody else."""
    ways: Annotated[dict[str, Way], Field(min_length=2)]
    """By name."""


def read_worksheet(path: str | Path) -> Worksheet:
    """The worksheet in a YAML file.

    Raises:
        ConfigError: It cannot be read, or is no worksheet.
    """
    sheet = validate(Worksheet, read_yaml(path, "worksheet", "rltrain estimate --example worksheet"))
    if (sheet.data is None) != (sheet.may_leave is None):
        raise ConfigError("'data' and 'may_leave' belong together.", "Give both, or neither.")
    return sheet


def compare(sheet: Worksheet) -> dict[str, Any]:
    """What the ways cost, whether they are allowed, and from which day on one is cheaper than another.

    Returns:
        ``ways`` by name: ``cost`` over the days, ``value`` gained in them, ``net`` (value less cost), ``latency`` and
        ``data`` (``ok``, ``too slow`` / ``may not leave``, or ``unknown``) and ``missing``, the names of what the file
        does not say. ``break_even``: for each pair of which one starts dearer, the day from which on it is ahead of
        the other (None for never), counted with what both gain if both say it, else with what they cost.
    """
    ways = {name: _of(sheet, way) for name, way in sheet.ways.items()}
    pairs = [_pair(sheet, one, other) for one, other in permutations(sheet.ways, 2)]
    facts = sheet.model_dump(mode="json", exclude={"ways"})
    return {**facts, "ways": ways, "break_even": [pair for pair in pairs if pair is not None]}


def _of(sheet: Worksheet, way: Way) -> dict[str, Any]:
    decisions = sheet.decisions_per_day * sheet.days
    known = way.once is not None and way.per_day is not None and way.per_decision is not None
    cost = (way.once or 0) + (way.per_day or 0) * sheet.days + (way.per_decision or 0) * decisions if known else None
    value = None if way.value_per_decision is None else way.value_per_decision * decisions
    latency, data = "ok", "ok"
    if sheet.max_latency_ms is not None:
        if way.latency_ms is None:
            latency = "unknown"
        elif way.latency_ms > sheet.max_latency_ms:
            latency = "too slow"
    if sheet.may_leave is not None and sheet.data not in sheet.may_leave:
        data = {None: "unknown", True: "may not leave", False: "ok"}[way.sends_data]
    return {
        "cost": cost,
        "per_decision": None if cost is None else cost / decisions,
        "value": value,
        "net": None if cost is None or value is None else value - cost,
        "latency_ms": way.latency_ms,
        "latency": latency,
        "data": data,
        "missing": [name for name in Way.model_fields if getattr(way, name) is None],
    }


def _pair(sheet: Worksheet, one: str, other: str) -> dict[str, Any] | None:
    """From when on one way is ahead of another; None where it starts cheaper, or numbers are missing."""
    first, second = sheet.ways[one], sheet.ways[other]
    counts_value = first.value_per_decision is not None and second.value_per_decision is not None
    lines = []
    for way in (first, second):
        if way.once is None or way.per_day is None or way.per_decision is None:
            return None
        gain = way.value_per_decision if counts_value and way.value_per_decision is not None else 0.0
        lines.append((way.once, way.per_day + (way.per_decision - gain) * sheet.decisions_per_day))
    more_once, less_daily = lines[0][0] - lines[1][0], lines[1][1] - lines[0][1]
    if more_once < 0 or (more_once == 0 and less_daily <= 0):
        return None
    days = more_once / less_daily if less_daily > 0 else None
    return {"way": one, "against": other, "days": days, "counts": "cost and value" if counts_value else "cost"}


def as_text(compared: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    currency, lines = compared["currency"], []
    lines.append(f"{compared['decisions_per_day']:,.0f} decisions a day for {compared['days']:,g} days")
    for name, way in compared["ways"].items():
        lines.append(f"\n{name}")
        for what in ("cost", "value", "net"):
            shown = "unknown" if way[what] is None else f"{way[what]:,.2f} {currency}"
            if what == "cost" and way["per_decision"] is not None:
                shown += f", {way['per_decision']:.3g} a decision"
            lines.append(f"  {what:<9}{shown}")
        latency = "unknown" if way["latency_ms"] is None else f"{way['latency_ms']:g} ms"
        allowed = f", {compared['max_latency_ms']:g} ms allowed" if compared["max_latency_ms"] else ""
        lines.append(f"  latency  {latency}{allowed}{': too slow' if way['latency'] == 'too slow' else ''}")
        if compared["data"] is not None:
            said = {"ok": "ok", "may not leave": "sent to somebody else, which the file forbids"}
            lines.append(f"  data     {compared['data']}: {said.get(way['data'], 'unknown')}")
        if way["missing"]:
            lines.append(f"  missing  {', '.join(way['missing'])}")
    lines.append("\nbreak even")
    for pair in compared["break_even"]:
        days = pair["days"]
        when = "never"
        if days is not None:
            when = f"after {days:,.1f} days, {days * compared['decisions_per_day']:,.0f} decisions"
        lines.append(f"  {pair['way']} against {pair['against']}: {when} ({pair['counts']})")
    if not compared["break_even"]:
        lines.append("  no two ways of which one starts dearer and all numbers are known")
    return plain("\n".join(lines))
