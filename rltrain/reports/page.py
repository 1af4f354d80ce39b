"""A report of runs: one web page that needs nothing beside it, with no script and no address in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rltrain.cost.meter import as_words
from rltrain.errors import ConfigError, RLTrainError
from rltrain.evaluation.files import writing
from rltrain.evaluation.statistics import interval, iqm_of_tasks
from rltrain.reports.cards import card_of
from rltrain.reports.figure import as_bytes
from rltrain.reports.films import Films
from rltrain.reports.groups import Group, differing, group_runs, setting_text, settings_of, value_text
from rltrain.reports.html import Markup, data_uri, join, pairs, table, tag
from rltrain.reports.learning_curves import draw_curves
from rltrain.reports.plot import thresholds_of
from rltrain.reports.scores import draw_improvements, draw_profiles, read_scores
from rltrain.reports.stylesheet import STYLE
from rltrain.runs.summary import RunSummary
from rltrain.trackers.csv import STEP

HEALTH = "health/"
"""What the metrics of diagnoses begin with, which are 1 where one is made."""
MOST_RUNS = 1_000
"""Rows of the table of runs."""


def write_report(runs: Sequence[RunSummary], out: Path) -> Path:
    """Writes a report of runs, broken ones too, of which it says what is broken.

    Returns:
        The path of the page.

    Raises:
        ConfigError: It cannot be written.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"'{out}' is no name of a web page.", "Let it end in .html.")
    page = make_page(runs)
    with writing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def make_page(runs: Sequence[RunSummary]) -> str:
    """The page as text."""
    whole = [run for run in runs if run.settings]
    groups = {env: group_runs([run for run in whole if run.env == env])[env] for env in {run.env: 0 for run in whole}}
    anchors = {env: f"environment-{number}" for number, env in enumerate(groups, 1)}
    title = f"Report of {len(runs)} run{'s' if len(runs) != 1 else ''}"
    made = f"Made by rltrain {version('rltrain')} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."
    links = [tag("a", env, href=f"#{anchor}") for env, anchor in anchors.items()]
    films = Films()
    body = [
        tag("h1", title),
        tag("p", made, class_="soft"),
        tag("nav", *links, tag("a", "Settings", href="#settings"), tag("a", "Versions", href="#versions")),
        _health(runs),
        tag("h2", "Runs"),
        _runs(runs),
        *(_environment(env, anchors[env], members, films) for env, members in groups.items()),
        tag("h2", "Settings", id="settings"),
        *(_settings(env, members) for env, members in groups.items()),
        tag("h2", "Versions", id="versions"),
        _versions(whole),
    ]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    sources = "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=f"{sources}; style-src 'sha256-{digest}'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", *head), tag("body", *body), lang="en")


def _health(runs: Sequence[RunSummary]) -> Markup:
    """What went wrong, if anything did."""
    lines = []
    for run in runs:
        found = [run.problem, run.metadata.get("error"), run.metadata.get("diagnosis"), *_findings(run)]
        if run.status == "killed":
            found.append("No process trains it any more, and it has not ended.")
        lines += [tag("p", tag("b", f"{run.path}: "), str(text), class_="bad") for text in found if text]
    return join([tag("h2", "What went wrong"), *lines]) if lines else Markup("")


def _findings(run: RunSummary) -> list[str]:
    """The diagnoses that were made while it trained, each with the first step of it."""
    steps = run.progress.get(STEP, [])
    lines = []
    for metric, values in run.progress.items():
        found = [step for step, value in zip(steps, values, strict=True) if value > 0]
        if metric.startswith(HEALTH) and found:
            lines.append(f"{metric.removeprefix(HEALTH).replace('_', ' ')}, at step {found[0]:,.0f}")
    return lines


def _runs(runs: Sequence[RunSummary]) -> Markup:
    rows: list[tuple[str, ...]] = []
    for run in runs[:MOST_RUNS]:
        evaluation = run.evaluation
        std = evaluation.get("std_reward")
        score = "" if run.score is None else f"{run.score:,.1f}"
        spread = f" ± {std:,.1f}" if score and isinstance(std, int | float) else ""
        seconds = "" if run.seconds is None else f"{run.seconds:,.1f}"
        steps = "" if run.steps is None else f"{run.steps:,}"
        seed = "" if run.seed is None else str(run.seed)
        rows.append((str(run.path), run.status, run.agent, run.env, seed, score + spread, steps, seconds, _cost(run)))
    head: tuple[str, ...] = ("run", "status", "agent", "environment", "seed", "score", "steps", "seconds", "cost")
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    more = [tag("p", f"and {len(runs) - MOST_RUNS:,} more")] if len(runs) > MOST_RUNS else []
    note = "Score: mean and deviation of the returns in the evaluation at the end."
    return join([table(head, rows, right=("seed", "score", "steps", "seconds")), *more, tag("p", note, class_="soft")])


def _cost(run: RunSummary) -> str:
    """What a run has cost, if it says so."""
    cost = run.metadata.get("cost")
    return as_words(cost) if isinstance(cost, Mapping) else ""


def _environment(env: str, anchor: str, groups: Sequence[Group], films: Films) -> Markup:
    """The curves, scores, films and card of an environment."""
    runs = [run for group in groups for run in group.runs]
    parts = [tag("h2", env, id=anchor), _figure(lambda: draw_curves(runs, thresholds_of(runs)), "Learning curves")]
    rows = [_scores(group) for group in groups]
    head = ("group", "runs", "scores", "IQM", "95% interval", "lowest", "highest")
    parts += [tag("h3", "Scores"), table(head, rows, right=head[1:])]
    if len(groups) > 1 and sum(int(row[2]) > 0 for row in rows) > 1:
        scores = read_scores(runs)
        what = "mean return of the evaluation at the end"
        parts.append(_figure(lambda: draw_improvements(scores, what), "Probability of improvement"))
        parts.append(_figure(lambda: draw_profiles(scores, what), "Performance profiles"))
    if shown := [film for group in groups if (film := films.of_group(group)) is not None]:
        parts += [tag("h3", "Films"), tag("div", *shown, class_="films")]
    return join([*parts, tag("h3", "The environment"), card_of(env)])


def _figure(draw: Any, caption: str) -> Markup:
    """A picture, or why there is none."""
    try:
        content = as_bytes(draw(), ".svg")
    except RLTrainError as error:
        return tag("p", f"{caption}: there is no picture. {error.cause}", class_="soft")
    return tag("figure", tag("img", src=data_uri(content, "image/svg+xml"), alt=caption))


def _scores(group: Group) -> tuple[str, ...]:
    scores = [run.score for run in group.runs if run.score is not None]
    first = (group.label, str(len(group.runs)), str(len(scores)))
    if not scores:
        return (*first, "", "", "", "")
    low, high = interval(iqm_of_tasks, [scores])
    ends = f"{low:,.1f} to {high:,.1f}" if len(scores) > 1 else ""
    return (*first, f"{iqm_of_tasks([scores]):,.1f}", ends, f"{min(scores):,.1f}", f"{max(scores):,.1f}")


def _settings(env: str, groups: Sequence[Group]) -> Markup:
    """The settings that differ between the groups of an environment, and all settings of each."""
    settings = [settings_of(group.runs[0]) for group in groups]
    parts = [tag("h3", env)]
    if len(groups) > 1:
        rows = [(name, *(setting_text(each, name) for each in settings)) for name in differing(settings)]
        parts += [tag("p", "What differs:", class_="soft"), table(("setting", *(g.label for g in groups)), rows)]
    for group, each in zip(groups, settings, strict=True):
        known = [(name, value_text(value)) for name, value in each.items() if name not in ("algo", "env.id")]
        parts += [tag("h3", f"{env}: {group.label}"), tag("div", pairs(known), class_="settings")]
    return join(parts)


def _versions(runs: Sequence[RunSummary]) -> Markup:
    """The versions, commits, machines and commands by which the runs were made, each with the number of runs."""
    counts: dict[tuple[str, str], int] = {}
    for run in runs:
        metadata = run.metadata
        versions, mode = (metadata.get(name) for name in ("versions", "mode"))
        found = {
            **(versions if isinstance(versions, Mapping) else {}),
            **(mode if isinstance(mode, Mapping) else {}),
            **{name: metadata.get(name) for name in ("git_commit", "platform", "cpus", "command")},
        }
        for name, value in found.items():
            if value is not None:
                counts[str(name), str(value)] = counts.get((str(name), str(value)), 0) + 1
    order = list(dict.fromkeys(name for name, _ in counts))
    rows = sorted(counts.items(), key=lambda each: order.index(each[0][0]))
    return table(("what", "value", "runs"), [(*what, str(number)) for what, number in rows], right=("runs",))
