"""``rltrain preferences train``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from rltrain.cli.options import Parser, dashed, whole
from rltrain.cli.output import say
from rltrain.cli.preferences_label import given_to_oracle
from rltrain.cli.train import FLAGS
from rltrain.cli.typed_run import typed_run
from rltrain.errors import ConfigError, plain

REFUSED = {
    "--config": ("'--config' is not for rounds.", "Give the options themselves."),
    "--zoo": ("'--zoo' is not for rounds.", "Give the options themselves."),
    "--json": ("'--json' is not for rounds.", "Give nothing."),
    "--num-seeds": ("'--num-seeds' is not for rounds.", "Leave it out: rounds train one run after another."),
    "--reward-model": ("'preferences train' fits one in every round.", "Leave --reward-model out."),
    "--run-dir": ("'preferences train' keeps its runs in DIR.", "Leave --run-dir out."),
}
"""Options of 'rltrain train' that this verb does not take: why, and what to do instead."""


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
    mine, others = divided(arguments, {name: each.nargs != 0 for name, each in parser._option_string_actions.items()})
    parsed = parser.parse(mine)
    mistakes = given_to_oracle(parsed, "error_rate", "rationality")
    for word in others:
        if (refused := REFUSED.get(dashed(word).partition("=")[0])) is not None:
            raise ConfigError(*refused)
    typed = typed_run("preferences train DIR", [parsed.algo, parsed.env, *others], flags=FLAGS)
    config, progress = typed.config, not typed.own.get("no_progress", False)

    from rltrain.preferences.folder import Preferences
    from rltrain.preferences.loop import Plan, train_in_rounds
    from rltrain.preferences.oracle import label_by_oracle
    from rltrain.process.stopping import Stopped
    from rltrain.runs.folder import RunFolder

    def answer(prefs: Preferences, questions: Sequence[str]) -> None:
        if parsed.oracle:
            label_by_oracle(prefs, seed=config.seed, pairs=questions, **mistakes)

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


def divided(arguments: Sequence[str], own: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """The words and options of this verb, and the options of training with their values.

    Args:
        arguments: What was typed.
        own: The options of this verb, and whether each takes a value.
    """
    mine: list[str] = []
    others: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, _ = dashed(word).partition("=")
        if not word.startswith("--") or name in own:
            mine.append(word)
            if own.get(name) and not equals and rest:
                mine.append(rest.pop(0))
            continue
        others.append(word)
        while not equals and rest and not rest[0].startswith("--"):
            others.append(rest.pop(0))
    return mine, others
