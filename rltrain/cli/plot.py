"""``rltrain plot``: draws runs into a picture."""

from __future__ import annotations

from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Draws learning curves, performance profiles or probabilities of improvement."""
    parser = Parser(
        "plot",
        "Draw runs. Those that are equal in everything but the seed are one group, whose interquartile mean is drawn "
        "with a 95%% bootstrap interval; the legend says what differs between groups. Each environment has a panel.",
    )
    parser.add_argument("runs", metavar="RUN|FOLDER", nargs="+", help="run folders, or folders with runs inside")
    parser.add_argument(
        "--out", metavar="FILE.png|.svg|.pdf", help="[<run>/learning_curve.png, or learning_curves.png here]"
    )
    what = "learning curves, performance profiles, or the probability that one group does better [curves]"
    parser.add_argument("--kind", choices=("curves", "profile", "improvement"), default="curves", help=what)
    parser.add_argument("--x", choices=("steps", "time"), help="what curves are drawn over [steps]")
    parser.add_argument("--metric", metavar="TAG", help="such as train/loss [returns of training and evaluation]")
    parser.add_argument("--each", action="store_true", help="curves: a line for every run, and no bands")
    parsed = parser.parse(arguments)
    if parsed.kind != "curves":
        for option, given in (("--x", parsed.x), ("--each", parsed.each)):
            if given:
                raise ConfigError(f"'{option}' is for curves, not for --kind {parsed.kind}.", "Leave it out.")

    from rltrain.reports.plot import plot
    from rltrain.runs.summary import one_at_least, read_runs

    runs = one_at_least(read_runs(parsed.runs))
    out = None if parsed.out is None else Path(parsed.out)
    say(plot(runs, out, kind=parsed.kind, x=parsed.x or "steps", metric=parsed.metric, each=parsed.each))
    return 0
