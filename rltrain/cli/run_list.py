"""``rltrain runs``: lists runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say, terminal_width
from rltrain.cli.tables import clock, count, table
from rltrain.errors import ConfigError, did_you_mean, plain

if TYPE_CHECKING:
    from rltrain.runs.summary import RunSummary

COLUMNS = ("status", "agent", "environment", "seed", "score", "steps", "time", "run")
STATUSES = ("running", "completed", "interrupted", "failed", "killed", "broken")
NUMBERS = ("seed", "score", "steps", "time")
DESCENDING = ("score", "steps", "time", "started")
SORTS = (*COLUMNS, "started")
FROM_TRAINING = "~"


def main(arguments: list[str]) -> int:
    """Lists the runs in a folder."""
    parser = Parser("runs", "List the runs in a folder: what they are, how far they are, and how they score.")
    parser.add_argument("folder", nargs="?", default="runs", metavar="FOLDER", help="[runs]")
    parser.add_argument("--status", metavar="|".join(STATUSES), help="only those in this state")
    parser.add_argument("--agent", metavar="NAME", help="only this agent's")
    parser.add_argument("--env", metavar="WORD", help="only in environments with this in their id")
    parser.add_argument("--seed", type=whole(0), metavar="INT", help="only with this seed")
    what = "only with these settings, such as agent.gamma=0.9 num_envs=8"
    parser.add_argument("--where", nargs="+", metavar="NAME=VALUE", help=what)
    parser.add_argument("--sort", metavar="|".join(SORTS), help="the highest score first [run]")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)
    if parsed.status is not None and parsed.status not in STATUSES:
        fix = did_you_mean(parsed.status, STATUSES, f"It is one of: {', '.join(STATUSES)}.")
        raise ConfigError(f"No run has the status '{parsed.status}'.", fix)
    if parsed.sort is not None and parsed.sort not in SORTS:
        fix = did_you_mean(parsed.sort, SORTS, f"Known: {', '.join(SORTS)}.")
        raise ConfigError(f"There is no column '{parsed.sort}' to sort by.", fix)
    wanted = [_setting(text) for text in parsed.where or ()]

    from rltrain.reports.groups import value_text
    from rltrain.runs.summary import read_runs

    runs = [
        run
        for run in read_runs([parsed.folder])
        if (parsed.status is None or run.status == parsed.status)
        and (parsed.agent is None or run.agent == parsed.agent)
        and (parsed.env is None or parsed.env.lower() in run.env.lower())
        and (parsed.seed is None or run.seed == parsed.seed)
        and all(_has(run, name, value, value_text) for name, value in wanted)
    ]
    if parsed.sort:
        runs = _sorted(runs, parsed.sort, parsed.reverse)
    elif parsed.reverse:
        runs.reverse()
    if parsed.json:
        say(json.dumps({"runs": [facts_of(run) for run in runs]}))
        return 0
    if not runs:
        print("No run is like that.", file=sys.stderr)
        return 0
    rows = [row_of(run) for run in runs]
    text = table(COLUMNS, rows, right=NUMBERS)
    if (width := terminal_width()) is not None and max(map(len, text.splitlines())) > width:
        left = [name for name in COLUMNS if name != "environment"]  # which the name of the folder tells too
        text = table(left, [row[:2] + row[3:] for row in rows], right=NUMBERS)
    say(text)
    if any(row[4].startswith(FROM_TRAINING) for row in rows):
        say(f"\n{FROM_TRAINING} is the mean return of training episodes, where there is no evaluation at the end.")
    for run in runs:
        if run.problem:
            say(plain(f"broken: {run.problem}"))
    return 0


def facts_of(run: RunSummary) -> dict[str, Any]:
    """What ``--json`` tells of a run in a list."""
    score = score_of(run)
    return {
        "run": str(run.path),
        "status": run.status,
        "agent": run.agent or None,
        "environment": run.env or None,
        "seed": run.seed,
        "score": score,
        "score_of": None if score is None else "training" if run.score is None else "evaluation",
        "steps": run.steps,
        "seconds": run.seconds,
        "started": run.metadata.get("started"),
        **({"problem": run.problem} if run.problem else {}),
    }


def score_of(run: RunSummary) -> float | None:
    """The score of a run: of its evaluation at the end, or of its training so far."""
    return run.score if run.score is not None else run.last("rollout/ep_rew_mean")


def row_of(run: RunSummary) -> list[str]:
    """The cells of a run in a list."""
    score = score_of(run)
    mark = FROM_TRAINING if run.score is None else ""
    return [
        run.status,
        run.agent,
        run.env,
        "" if run.seed is None else str(run.seed),
        "" if score is None else f"{mark}{score:,.1f}",
        count(run.steps),
        clock(run.seconds),
        str(run.path),
    ]


def _sorted(runs: Sequence[RunSummary], column: str, reverse: bool) -> list[RunSummary]:
    def key(run: RunSummary) -> Any:
        facts = facts_of(run)
        return facts["seconds" if column == "time" else column]

    known = [run for run in runs if key(run) is not None]
    others = [run for run in runs if key(run) is None]
    return [*sorted(known, key=key, reverse=(column in DESCENDING) is not reverse), *others]


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"'{text}' names no setting and its value.", "Write NAME=VALUE, such as agent.gamma=0.9.")
    return name.replace("-", "_"), value


def _has(run: RunSummary, name: str, value: str, text_of: Any) -> bool:
    from rltrain.cli.typed import parse_value

    for known in (name, f"agent.{name}", f"env.kwargs.{name}"):
        if known in run.settings:
            return text_of(run.settings[known]) == text_of(parse_value(value)) or str(run.settings[known]) == value
    return False
