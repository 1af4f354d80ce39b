"""``rltrain data show|check|split|import|export|lineage|delete``: what can be done with a dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean, plain
from rltrain.plugins import resolve

if TYPE_CHECKING:
    from rltrain.data.dataset import Dataset

VERBS = {
    "show": ("data:show", "what is in it, in words and as a picture"),
    "check": ("data_quality:check", "what is wrong with it; with several, also what is in two of them"),
    "split": ("data_quality:split", "divide it by whole episodes, or by people"),
    "import": ("data_exchange:import_", "make a dataset of one of Minari's, or of a table"),
    "export": ("data_exchange:export", "write it for Minari, or as a table"),
    "lineage": ("data_lineage:lineage", "what it was made from; runs, checkpoints and exports that have it"),
    "delete": ("data_quality:delete", "take a person's episodes out of it"),
}
"""What can be done with a dataset, by verb: the function, and a line for the help."""


def main(arguments: list[str]) -> int:
    """Runs one of the verbs for datasets."""
    if arguments and arguments[0] in VERBS:
        return int(resolve(f"rltrain.cli.{VERBS[arguments[0]][0]}")(arguments[1:]))
    lines = "\n".join(f"  {name:<8}{line}" for name, (_, line) in VERBS.items())
    parser = Parser(
        "data", f"Do something with a dataset:\n\n{lines}\n\n'rltrain data VERB --help' says what each takes."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("verb", metavar="|".join(VERBS), help="what to do, and then DIR or what it takes")
    parsed = parser.parse(arguments[:1])
    fix = did_you_mean(parsed.verb, VERBS, f"Known: {', '.join(VERBS)}.")
    raise ConfigError(f"There is no 'rltrain data {parsed.verb}'.", fix)


def show(arguments: list[str]) -> int:
    """Prints a summary and draws a picture."""
    parser = Parser("data show", "Say what a dataset holds, and draw its returns, lengths, actions and coverage.")
    parser.add_argument("dir", metavar="DIR", help="folder with a dataset")
    parser.add_argument("--out", metavar="FILE.png", help="the picture [overview.png in the folder]; none for none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.data.dataset import Dataset
    from rltrain.data.picture import draw_dataset
    from rltrain.data.summary import summarize

    dataset = Dataset.open(parsed.dir)
    lines = list(summary_lines(dataset))
    picture = None
    if parsed.out != "none":
        picture = draw_dataset(dataset, dataset.path / "overview.png" if parsed.out is None else Path(parsed.out))
    if parsed.json:
        say(json.dumps({**summarize(dataset), "picture": str(picture or "") or None}))
        return 0
    say(plain("\n".join(lines)))
    if picture is not None:
        say(_row("picture", picture))
    return 0


def summary_lines(dataset: Dataset) -> Iterator[str]:
    """The summary of a dataset, line by line."""
    from rltrain.data.summary import summarize

    facts = summarize(dataset)
    ends = ", ".join(f"{count:,} {name}" for name, count in facts["ends"].items() if count)
    yield _row("dataset", facts["path"])
    yield _row(
        "episodes", f"{facts['episodes']:,} with {facts['steps']:,} steps, {facts['bytes'] / 1e6:,.1f} MB; {ends}"
    )
    if facts["environment"]:
        yield _row("played in", facts["environment"])
    yield _row("returns", _spread(facts))
    if len(facts["policies"]) > 1:
        for policy in facts["policies"]:
            yield _row("  by", f"{policy['name']}, {policy['episodes']:,} episodes: {_spread(policy)}")
    else:
        yield _row("policy", facts["policies"][0]["name"])
    yield _row("observes", " ".join(facts["observation_space"].split()))
    yield _row("acts", " ".join(facts["action_space"].split()))
    yield _row("columns", ", ".join(f"{name} {kind}" for name, kind in facts["columns"].items()))
    if facts["groups"]:
        yield _row("groups", ", ".join(f"{name} ({count:,} values)" for name, count in facts["groups"].items()))
    if facts["known_seeds"]:
        yield _row("seeds", f"of {facts['known_seeds']:,} episodes")
    yield _row("checksum", facts["checksum"])
    if facts["ancestors"]:
        yield _row("made from", ", ".join(each[:12] for each in facts["ancestors"]))
    if facts["card_lacks"]:
        yield _row("card", f"{dataset.path / 'card.yaml'} lacks {', '.join(facts['card_lacks'])}")


def _spread(facts: dict[str, float]) -> str:
    return (
        f"{facts['mean_return']:,.1f} ± {facts['std_return']:,.1f} "
        f"({facts['min_return']:,.1f} to {facts['max_return']:,.1f}), "
        f"{facts['mean_length']:,.1f} steps ({facts['min_length']:,} to {facts['max_length']:,})"
    )


def _row(name: str, text: object) -> str:
    return f"{name:<11}{text}"
