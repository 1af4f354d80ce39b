"""``rltrain show``: everything that a run folder says about a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.cli.run_list import facts_of
from rltrain.cli.tables import clock, count, entries, size
from rltrain.cost.meter import as_words
from rltrain.errors import CheckpointError

if TYPE_CHECKING:
    from rltrain.runs.summary import RunSummary


def main(arguments: list[str]) -> int:
    """Prints what is known of a run."""
    parser = Parser("show", "Show what is known of a run: outcome, score, how it was made, checkpoints, settings.")
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("--all", action="store_true", help="all settings, not only those that are not the defaults")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.reports.groups import value_text
    from rltrain.runs.folder import RunFolder
    from rltrain.runs.layout import list_checkpoints, step_of
    from rltrain.runs.removal import size_of
    from rltrain.runs.summary import changed_settings, read_run

    run = read_run(Path(parsed.run))
    if run.problem and not run.settings:
        raise CheckpointError(run.problem, run.fix)
    folder = RunFolder(run.path)
    steps = [step_of(path) for path in list_checkpoints(folder.checkpoints)]
    settings = dict(run.settings) if parsed.all or parsed.json else changed_settings(run)
    best = folder.best()
    number, bytes_ = size_of(run.path)
    if parsed.json:
        facts = {**facts_of(run), "evaluation": dict(run.evaluation) or None, "best": best, "checkpoints": steps}
        say(json.dumps({**facts, "bytes": bytes_, "settings": settings, "metadata": dict(run.metadata)}, default=str))
        return 0
    kept = f"{len(steps)}, at {', '.join(f'{step:,}' for step in steps[-4:])} steps" if steps else "none"
    if best is not None:
        kept += f"; the best at {best['step']:,}"
    rows = [*_outcome(run), ("checkpoints", kept), ("files", f"{number:,}, {size(bytes_)}"), *_origin(run)]
    say(entries(rows))
    say(f"\n{'settings' if parsed.all else 'settings other than the defaults of the agent'}:")
    width = min(max((len(name) for name in settings), default=0) + 4, 44)
    say(entries([(f"  {name}", value_text(value)) for name, value in settings.items()] or [("  none", "")], width))
    return 0


def _outcome(run: RunSummary) -> list[tuple[str, str]]:
    """What the run is, and what it came to."""
    rows = [("run", str(run.path)), ("status", f"{run.status}{_why(run)}")]
    rows += [("agent", run.agent), ("environment", run.env)]
    rows += [("seed", str(run.seed)), ("steps", count(run.steps)), ("time", clock(run.seconds))]
    if run.steps and run.seconds:
        rows[-1] = ("time", f"{clock(run.seconds)}, {run.steps / run.seconds:,.0f} steps a second")
    if run.score is not None:
        rows.append(("score", _score(run.evaluation)))
    elif (last := run.last("rollout/ep_rew_mean")) is not None:
        rows.append(("return", f"{last:,.1f} in the last training episodes; there is no evaluation at the end"))
    cost = run.metadata.get("cost")
    if isinstance(cost, dict) and (text := as_words(cost)):
        rows.append(("cost", text))
    if run.metadata.get("diagnosis"):
        rows.append(("diagnosis", str(run.metadata["diagnosis"])))
    return rows


def _why(run: RunSummary) -> str:
    """What belongs to the status of a run."""
    if run.problem:
        return f": {run.problem}"
    if run.status == "killed":
        return f": no process trains it; go on with: rltrain resume {run.path}"
    why = run.metadata.get("error") or str(run.metadata.get("stopped_by") or "").replace("_", " ")
    return f": {why}" if why else ""


def _score(evaluation: Any) -> str:
    text = f"{evaluation['mean_reward']:,.1f}"
    if isinstance(evaluation.get("std_reward"), int | float):
        text += f" ± {evaluation['std_reward']:,.1f}"
    if isinstance(evaluation.get("iqm"), int | float):
        text += f", IQM {evaluation['iqm']:,.1f}"
    return f"{text} over {evaluation.get('episodes')} episodes"


def _origin(run: RunSummary) -> list[tuple[str, str]]:
    """How the run was made."""
    metadata = run.metadata
    versions = metadata.get("versions")
    texts = {
        "started": metadata.get("started"),
        "command": metadata.get("command"),
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else None,
        "commit": metadata.get("git_commit"),
        "machine": metadata.get("platform"),
        "mode": ", ".join(f"{k} {v}" for k, v in (metadata.get("mode") or {}).items()),
    }
    return [(name, str(text)) for name, text in texts.items() if text]
