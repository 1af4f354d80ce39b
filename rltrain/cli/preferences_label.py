"""``rltrain preferences label``."""

from __future__ import annotations

import argparse
import getpass
import threading
from typing import TYPE_CHECKING, Any

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, plain

if TYPE_CHECKING:
    from rltrain.preferences.folder import Preferences


def label(arguments: list[str]) -> int:
    """Lets somebody answer the questions."""
    parser = Parser("preferences label", "Answer the questions that are open.")
    parser.add_argument("dir", metavar="DIR", help="folder of preferences")
    parser.add_argument("--labeller", metavar="NAME", help="whose answers they are [your name in this system]")
    what = "also questions that others have answered already, which shows how far labellers agree"
    parser.add_argument("--all", action="store_true", help=what)
    parser.add_argument("--question", metavar="TEXT", help="what the page asks [Which clip is better?]")
    parser.add_argument("--port", type=whole(0), default=0, metavar="INT", help="of the page [any that is free]")
    parser.add_argument("--oracle", action="store_true", help="let a script answer by the true reward")
    what = "chance that the oracle answers the wrong way round [0]"
    parser.add_argument("--error-rate", type=float, metavar="FLOAT", help=what)
    what = "how sure the oracle is of a difference in return: by the logistic function [without a bound]"
    parser.add_argument("--rationality", type=float, metavar="FLOAT", help=what)
    parser.add_argument("--seed", type=whole(0), metavar="INT", help="of the oracle's mistakes [0]")
    parser.add_argument("--most", type=whole(1), metavar="INT", help="answers of the oracle at most [all]")
    parsed = parser.parse(arguments)
    options = given_to_oracle(parsed, "error_rate", "rationality", "seed", "most")
    for name in ("all", "question", "port"):
        if getattr(parsed, name) and parsed.oracle:
            raise ConfigError(f"'--{name}' is of the page, which an oracle does not see.", "Leave it out.")

    from rltrain.preferences.folder import Preferences

    prefs = Preferences.open(parsed.dir)
    if not parsed.oracle:
        return serve(prefs, parsed.labeller or who(), parsed.question, parsed.port, everything=parsed.all)

    from rltrain.preferences.oracle import ORACLE, label_by_oracle

    labeller = parsed.labeller or ORACLE
    given = label_by_oracle(prefs, labeller=labeller, **options)
    say(plain(f"{given:,} answers by {labeller}; {len(prefs.answers.current()):,} in all"))
    return 0


def given_to_oracle(parsed: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options of the oracle that were typed, by name.

    Raises:
        ConfigError: There are some, and no oracle.
    """
    options = {name: value for name in names if (value := getattr(parsed, name)) is not None}
    for name in options:
        if not parsed.oracle:
            raise ConfigError(f"'--{name.replace('_', '-')}' is of an oracle.", "Give --oracle too, or leave it out.")
    return options


def serve(prefs: Preferences, labeller: str, question: str | None, port: int, *, everything: bool) -> int:
    """Makes the films and serves the page until Ctrl-C."""
    from rltrain.cli.tensorboard import until_a_signal
    from rltrain.preferences.films import make_films
    from rltrain.preferences.page import QUESTION, Labelling, Page

    answers = prefs.answers.current()
    mine = {answer.pair for answer in answers if answer.labeller == labeller}
    others = set() if everything else {answer.pair for answer in answers} - mine
    pairs = [name for name in prefs.questions() if name not in others]
    labelling = Labelling(prefs, pairs, labeller, question or QUESTION)
    left = [pair for pair in pairs if pair not in mine]
    if not left:
        say("All questions are answered.")
        return 0
    make_films(prefs, pairs, progress=True)
    with Page(labelling, port) as page:
        serving = threading.Thread(target=page.serve_forever, daemon=True)
        serving.start()
        say(plain(f"{len(left):,} questions for {labeller} at {page.url}  (Ctrl-C to end)"))
        until_a_signal()
        page.shutdown()
    given = labelling.state()["answered"]
    say(plain(f"{given - len(mine):,} answers given, {len(pairs) - given:,} questions are open"))
    return 0


def who() -> str:
    """The name of whoever is logged in."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "me"
