"""``rltrain drift``: has what a policy meets, does and earns changed?"""

from __future__ import annotations

import json
from dataclasses import asdict

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.cli.typed import parse_value
from rltrain.errors import plain


def main(arguments: list[str]) -> int:
    """Compares two datasets; returns 1 if there is drift."""
    parser = Parser(
        "drift",
        "Compare episodes of now with a reference: observations, actions, returns. Leaves with 1 if there is drift.",
    )
    parser.add_argument("reference", metavar="REFERENCE", help="dataset from when all was well")
    parser.add_argument("current", metavar="CURRENT", help="dataset of now, with the same policy")
    parser.add_argument("--detector", metavar="adwin|kswin|page-hinkley", help="of river [adwin]")
    parser.add_argument("--delta", metavar="FLOAT", help="chance of a false alarm over all signals together [0.01]")
    what = "page-hinkley: sum of deviations from the mean, in standard deviations [50]"
    parser.add_argument("--threshold", metavar="FLOAT", help=what)
    what = "least shift of a mean, in standard deviations of the reference, that is an alarm [0.3]"
    parser.add_argument("--least-shift", metavar="FLOAT", help=what)
    parser.add_argument("--watch", nargs="+", metavar="obs|action|return", help="what to watch [all three]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse(arguments)

    from rltrain.data.dataset import Dataset
    from rltrain.data.drift import DriftConfig, drift_between
    from rltrain.settings import validate

    names = ("detector", "delta", "threshold", "least_shift", "watch")
    given = {name: value for name in names if (value := getattr(parsed, name)) is not None}
    read = {name: parse_value(value) if isinstance(value, str) else value for name, value in given.items()}
    config = validate(DriftConfig, read)
    reference, current = (Dataset.open(path, verify=True) for path in (parsed.reference, parsed.current))
    found = drift_between(reference, current, config)
    if parsed.json:
        say(json.dumps({"drift": bool(found.alarms), **asdict(found)}))
        return int(bool(found.alarms))
    for each in found.alarms:
        say(plain(f"{each.signal}: {each.before:.4g} before, {each.now:.4g} now ({each.shift:+.1f} deviations), "
                  f"noticed at episode {each.episode}"))  # fmt: skip
    if found.not_watched:
        say(plain(f"not watched: {found.not_watched}"))
    episodes = f"{found.current:,} episodes against {found.reference:,}"
    say(f"{'DRIFT' if found.alarms else 'no drift'}: {len(found.alarms)} of {found.signals} signals; {episodes}")
    return int(bool(found.alarms))
