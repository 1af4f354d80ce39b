"""``rltrain compare``: two runs, or two sets of runs, beside each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.cli.tables import table

if TYPE_CHECKING:
    from rltrain.reports.comparison import Comparison, Scores


def main(arguments: list[str]) -> int:
    """Prints what differs between two sides, and which scores higher."""
    parser = Parser("compare", "Compare two runs, or two folders of runs: settings that differ, and scores.")
    parser.add_argument("first", metavar="A", help="run folder, or a folder with runs inside")
    parser.add_argument("second", metavar="B", help="the same")
    what = "count the runs beside A and B that differ from them in the seed alone"
    parser.add_argument("--seeds", action="store_true", help=what)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.reports.comparison import check_apart, compare, with_seeds
    from rltrain.runs.summary import one_at_least, read_runs

    sides = [one_at_least(read_runs([name])) for name in (parsed.first, parsed.second)]
    if parsed.seeds:
        sides = [with_seeds(side) for side in sides]
    check_apart(*sides)
    found = compare(*sides)
    names = [name.rstrip("/") for name in (parsed.first, parsed.second)]
    if parsed.json:
        say(json.dumps(_facts(found, names, [[str(run.path) for run in side] for side in sides])))
    else:
        say(_text(found, names, [len(side) for side in sides]))
    return 0


def _facts(found: Comparison, names: list[str], runs: list[list[str]]) -> dict[str, Any]:
    def facts(scores: Scores) -> dict[str, Any]:
        return {"scores": scores.values.tolist(), "iqm": scores.iqm, "ci95": scores.interval}

    return {
        "sides": [{"name": name, "runs": each} for name, each in zip(names, runs, strict=True)],
        "settings": {name: list(values) for name, values in found.settings.items()},
        "scores": {env: [facts(first), facts(second)] for env, (first, second) in found.scores.items()},
        "probability_of_improvement": found.improvement,
        "ci95": found.interval,
        "difference": found.difference,
    }


def _text(found: Comparison, names: list[str], numbers: list[int]) -> str:
    from rltrain.reports.groups import ABSENT

    parts = [
        f"{letter}  {name} ({number} run{'s' if number > 1 else ''})"
        for letter, name, number in zip("AB", names, numbers, strict=True)
    ]
    shared = [(name, *values) for name, values in found.settings.items() if ABSENT not in values]
    if shared:
        parts += ["", table(("setting", "A", "B"), shared)]
    if alone := len(found.settings) - len(shared):
        parts.append(f"{alone} settings that one agent alone has are in --json.")
    if not found.settings:
        parts += ["", "No setting differs but the seed."]
    if not found.scores:
        return "\n".join([*parts, "", "There are no scores of both in one environment."])
    rows = [(env, _cell(first), _cell(second)) for env, (first, second) in found.scores.items()]
    parts += ["", table(("score", "A", "B"), rows), ""]
    if found.difference is not None:
        difference, (low, high) = found.difference
        ends = f"95% interval {low:+,.1f} to {high:+,.1f}"
        parts.append(f"B - A: {difference:+,.1f}, {ends} over the episodes of these two.")
    if min(numbers) > 1 and found.improvement is not None:
        line = f"A run of B scores higher than one of A with probability {found.improvement:.0%}"
        ends = "" if found.interval is None else f", 95% interval {found.interval[0]:.0%} to {found.interval[1]:.0%}"
        parts.append(f"{line}{ends}.")
    else:
        parts.append("A single run says nothing of other seeds: train several, and compare with --seeds.")
    return "\n".join(parts)


def _cell(scores: Scores) -> str:
    if len(scores.values) == 1:
        return f"{scores.iqm:,.1f}"
    ends = f" ({scores.interval[0]:,.1f} to {scores.interval[1]:,.1f})" if scores.interval else ""
    return f"IQM {scores.iqm:,.1f}{ends} of {len(scores.values)}"
