"""``rltrain preferences show``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import plain

if TYPE_CHECKING:
    from rltrain.preferences.folder import Preferences


def show(arguments: list[str]) -> int:
    """Prints what there is, and draws a picture."""
    parser = Parser("preferences show", "Say what a folder of preferences holds, and draw how good its model is.")
    parser.add_argument("dir", metavar="DIR", help="folder of preferences")
    what = "the picture [overview.png in the folder]; none for none"
    parser.add_argument("--out", metavar="FILE", help=what)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.preferences.folder import Preferences
    from rltrain.preferences.picture import draw_preferences
    from rltrain.preferences.summary import summarize

    prefs = Preferences.open(parsed.dir)
    facts = summarize(prefs)
    picture = None
    if parsed.out != "none":
        picture = draw_preferences(prefs, prefs.path / "overview.png" if parsed.out is None else Path(parsed.out))
    if parsed.json:
        say(json.dumps({**facts, "picture": str(picture or "") or None}))
        return 0
    say(plain("\n".join(summary_lines(prefs, facts))))
    if picture is not None:
        say(plain(f"picture    {picture}"))
    return 0


def summary_lines(prefs: Preferences, facts: Mapping[str, Any]) -> Iterator[str]:
    """The summary, line by line."""
    yield f"folder     {prefs.path}"
    yield f"of         {facts['environment']}, clips of {facts['segment']} steps"
    for each in facts["rounds"]:
        answered = f"{each['answered']:,} of {each['pairs']:,} pairs answered"
        yield f"round {each['number']:<5}{answered}, chosen {each['chosen']}; by {', '.join(each['policies'])}"
    said = Counter(facts["choices"])
    yield f"answers    {sum(said.values()):,}: " + ", ".join(f"{count:,} {name}" for name, count in said.items())
    if facts["damaged"]:
        yield f"damaged    {facts['damaged']:,} lines of answers.jsonl were cut off or changed, and do not count"
    for name, each in facts["labellers"].items():
        foretold = "" if each["foretold"] is None else f"; the model foretells {each['foretold']:.1%}"
        yield f"  by       {name}: {each['answers']:,}{foretold}"
    if facts["agreement"]["pairs"]:
        alpha = facts["agreement"]["alpha"]
        how = "" if alpha is None else f", Krippendorff's alpha {alpha:.2f}"
        yield f"agreement  {facts['agreement']['share']:.1%} on {facts['agreement']['pairs']:,} pairs{how}"
    if facts["model"] is not None:
        yield f"model      {facts['model']['path']}"
        yield from model_lines(facts["model"])


def model_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """How good a reward model is."""
    yield f"  from     {facts['answers']:,} answers of {', '.join(facts['labellers'])}, after {facts['epochs']} passes"
    for name, key in (("held out", "held_out"), ("fitted", "fitted")):
        found = facts[key]
        if found is None:
            yield f"  {name:<9}too few answers to hold any out"
            continue
        accuracy = "no decided answer" if found["accuracy"] is None else f"accuracy {found['accuracy']:.1%}"
        yield (
            f"  {name:<9}{accuracy}, cross-entropy {found['loss']:.3f} (a coin 0.693), "
            f"calibration error {found['calibration_error']:.1%}"
        )
    level = "known, from ends of episodes" if facts["keeps_level"] else "unknown, since no clip has an end: mean 0"
    yield f"  level    {level}"
