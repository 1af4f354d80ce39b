"""``rltrain preferences train``."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from rltrain.cli.options import Parser, dashed, parse_overrides, whole
from rltrain.cli.output import say
from rltrain.cli.train import FLAGS
from rltrain.cli.typed import kinds_for, kinds_of
from rltrain.cli.typed_run import KINDS, LISTS
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, plain
from rltrain.naming.environments import typed_env
from rltrain.settings import build_config, canonical

SWITCHES = ("--oracle", "--by-chance")


def train(arguments: list[str]) -> int:
    """Asks, fits and trains in rounds; stops where answers are wanted from people."""
    what = (
        "Ask, fit and train in rounds, each of which starts from the policy of the last. The same command goes on "
        "where it stopped. All options of 'rltrain train' may follow."
    )
    parser = Parser("preferences train", what)
    parser.add_argument("dir", metavar="DIR", help="folder of preferences; made if it is not there")
    parser.add_argument("algo", metavar="ALGO", help="an agent, such as ppo")
    parser.add_argument("env", metavar="ENV", help="environment id")
    parser.add_argument("--rounds", type=whole(1), default=4, metavar="INT", help="[4]")
    parser.add_argument("--pairs", type=whole(1), default=700, metavar="INT", help="questions in all rounds [700]")
    parser.add_argument("--episodes", type=whole(1), default=64, metavar="INT", help="recorded in each round [64]")
    parser.add_argument("--segment", type=whole(1), metavar="INT", help="steps of a clip [25]")
    parser.add_argument("--by-chance", action="store_true", help="draw the pairs, rather than by disagreement")
    parser.add_argument("--oracle", action="store_true", help="let a script answer by the true reward")
    parser.add_argument("--error-rate", type=float, metavar="FLOAT", help="of the oracle [0]")
    parser.add_argument("--rationality", type=float, metavar="FLOAT", help="of the oracle [without a bound]")
    mine, others = divided(arguments, [name for action in parser._actions for name in action.option_strings])
    parsed = parser.parse(mine)
    for name in ("error_rate", "rationality"):
        if getattr(parsed, name) is not None and not parsed.oracle:
            raise ConfigError(f"'--{name.replace('_', '-')}' is of an oracle.", "Give --oracle too, or leave it out.")
    kinds = {**KINDS, **dict(kinds_of(TrainConfig)), **kinds_for(parsed.algo, parsed.env)}
    _, options = parse_overrides(others, flags=FLAGS, kinds=kinds, lists=LISTS)
    progress = not options.pop("no_progress", False)
    for name, instead in (("config", "the options themselves"), ("zoo", "the options themselves"), ("json", "nothing")):
        if options.pop(name, None) is not None:
            raise ConfigError(f"'--{name}' is not for rounds.", f"Give {instead}.")
    for name, why in (("reward_model", "fits one in every round"), ("run_dir", "keeps its runs in DIR")):
        if name in options:
            raise ConfigError(f"'preferences train' {why}.", f"Leave --{name.replace('_', '-')} out.")
    config, _ = build_config(parsed.algo, typed_env(parsed.env), canonical(options))

    from rltrain.preferences.folder import Preferences
    from rltrain.preferences.loop import Plan, train_in_rounds
    from rltrain.preferences.oracle import label_by_oracle
    from rltrain.process.stopping import Stopped
    from rltrain.runs.folder import RunFolder

    def answer(prefs: Preferences, questions: Sequence[str]) -> None:
        if parsed.oracle:
            rationality = math.inf if parsed.rationality is None else parsed.rationality
            label_by_oracle(
                prefs, error_rate=parsed.error_rate or 0.0, rationality=rationality, seed=config.seed, pairs=questions
            )

    plan = Plan(parsed.rounds, parsed.pairs, parsed.episodes, parsed.segment, by_disagreement=not parsed.by_chance)
    again = shlex.join(["rltrain", "preferences", "train", *arguments])
    try:
        done = train_in_rounds(parsed.dir, config, plan, answer, progress=progress)
    except Stopped as stop:
        say(f"interrupted; go on with: {again}")
        return stop.exit_code
    for number, run in enumerate(done.runs, 1):
        score = (RunFolder(run).metadata().get("evaluation") or {}).get("mean_reward")
        say(plain(f"round {number:<5}{run}" + ("" if score is None else f": true return {score:,.1f}")))
    if done.waiting:
        say(f"waiting    for {len(done.waiting):,} answers: rltrain preferences label {shlex.quote(parsed.dir)}")
        say(f"then       {again}")
    elif done.interrupted:
        say(f"interrupted; go on with: {again}")
        return 130
    else:
        say(f"show       rltrain preferences show {shlex.quote(parsed.dir)}")
    return 0


def divided(arguments: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words and options of this verb, and the options of training with their values."""
    mine: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, _ = dashed(word).partition("=")
        if not word.startswith("--") or name in names:
            mine.append(word)
            if name in names and not equals and name not in (*SWITCHES, "--help") and rest:
                mine.append(rest.pop(0))
            continue
        others.append(word)
        while not equals and rest and not rest[0].startswith("--"):
            others.append(rest.pop(0))
    return mine, others
