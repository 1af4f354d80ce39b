"""``rltrain preferences ask|label|fit|show|train|export|import``: rewards learned from what people prefer."""

from __future__ import annotations

import argparse
import shlex

from rltrain.cli.options import EnvParser, Parser, add_module_option, whole
from rltrain.cli.output import say
from rltrain.cli.policies import recorded_source
from rltrain.errors import ConfigError, did_you_mean, plain
from rltrain.plugins import resolve

VERBS = {
    "ask": ("preferences:ask", "record episodes, and choose pairs of clips to ask about"),
    "label": ("preferences_label:label", "answer, on a page in the browser; or let an oracle answer"),
    "fit": ("preferences:fit", "fit a reward model to the answers"),
    "show": ("preferences_show:show", "what there is: answers, agreement, how well the model foretells"),
    "train": ("preferences_train:train", "ask, fit and train in rounds"),
    "export": ("preferences_exchange:export", "give the questions to Label Studio or Scale"),
    "import": ("preferences_exchange:import_", "take the answers from there"),
}
"""What can be done with preferences, by verb: the function, and a line for the help."""


def main(arguments: list[str]) -> int:
    """Runs one of the verbs for preferences."""
    if arguments and arguments[0] in VERBS:
        return int(resolve(f"rltrain.cli.{VERBS[arguments[0]][0]}")(arguments[1:]))
    lines = "\n".join(f"  {name:<8}{line}" for name, (_, line) in VERBS.items())
    what = (
        f"Learn a reward from what people prefer:\n\n{lines}\n\n'rltrain preferences VERB --help' says what each takes."
    )
    parser = Parser("preferences", what)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("verb", metavar="|".join(VERBS), help="what to do, and then DIR and what it takes")
    parsed = parser.parse(arguments[:1])
    fix = did_you_mean(parsed.verb, VERBS, f"Known: {', '.join(VERBS)}.")
    raise ConfigError(f"There is no 'rltrain preferences {parsed.verb}'.", fix)


def ask(arguments: list[str]) -> int:
    """Adds a round of questions."""
    parser = EnvParser("preferences ask", "Record episodes, and choose pairs of clips of them to ask about.")
    parser.repeated = ("--policy",)
    parser.add_argument("dir", metavar="DIR", help="folder of preferences; made if it is not there")
    parser.add_argument("what", metavar="RUN|ENV", help="run folder, checkpoint in it, or environment id")
    parser.add_argument("--pairs", type=whole(1), default=100, metavar="INT", help="questions [100]")
    parser.add_argument("--segment", type=whole(1), metavar="INT", help="steps of a clip [25, or those of the folder]")
    parser.add_argument("--episodes", type=whole(1), default=64, metavar="INT", help="to record [64]")
    what = "random, baseline or a run folder; several times, with =SHARE, to mix [that of RUN, or random]"
    parser.add_argument("--policy", metavar="NAME[=SHARE]", action="append", default=[], help=what)
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", default="latest", help="of runs [latest]")
    parser.add_argument("--deterministic", action="store_true", help="runs take their likeliest actions")
    what = "draw the pairs, rather than take those that the newest reward model is least sure of"
    parser.add_argument("--by-chance", action="store_true", help=what)
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="of episodes and pairs [0]")
    parser.add_argument("--num-envs", type=whole(1), metavar="INT", help="environments side by side [256, or 16]")
    what = "leave an episode after so many steps [its own limit, or 27,000 where there is none]"
    parser.add_argument("--max-steps", type=whole(1), metavar="INT", help=what)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:N, mps, xpu or auto [auto]")
    add_module_option(parser)
    parsed, env_options = parser.parse_both(arguments)

    from rltrain.devices import pick_device
    from rltrain.evaluation.limits import Limits
    from rltrain.preferences.asking import ask as ask_round
    from rltrain.process.stopping import Stopped
    from rltrain.training.signals import Interrupt

    source = recorded_source(parsed)
    try:
        with Interrupt(saying="ending this round of episodes; once more to leave now"):
            made = ask_round(
                parsed.dir,
                source,
                pairs=parsed.pairs,
                segment=parsed.segment,
                policies=parsed.policy,
                episodes=parsed.episodes,
                stochastic=not parsed.deterministic,
                by_disagreement=not parsed.by_chance,
                seed=parsed.seed,
                num_envs=parsed.num_envs,
                checkpoint=parsed.checkpoint,
                device=str(pick_device(parsed.device)),
                limits=Limits(parsed.max_steps, None, progress=True, what="recording"),
                **env_options,
            )
    except Stopped as stop:
        again = shlex.join(["rltrain", "preferences", "ask", *arguments])
        say(f"interrupted; the episodes that were saved are kept for: {again}")
        return stop.exit_code
    say(
        plain(f"round {made.number}: {len(made.pairs)} pairs of clips of {len(made.dataset.episodes)} episodes, chosen")
    )
    say(plain(f"{made.facts['chosen']}. Answer: rltrain preferences label {shlex.quote(parsed.dir)}"))
    return 0


def fit(arguments: list[str]) -> int:
    """Fits a reward model and says how good it is."""
    parser = Parser("preferences fit", "Fit a reward model to the answers, from fresh weights.")
    parser.add_argument("dir", metavar="DIR", help="folder of preferences")
    parser.add_argument("--members", type=whole(1), metavar="INT", help="networks of the ensemble [5]")
    parser.add_argument("--hidden", type=whole(1), nargs="+", metavar="INT", help="widths of their layers [64 64]")
    parser.add_argument("--learning-rate", type=float, metavar="FLOAT", help="[0.003]")
    parser.add_argument("--weight-decay", type=float, metavar="FLOAT", help="[0.01]")
    parser.add_argument("--epochs", type=whole(1), metavar="INT", help="the most passes over the answers [100]")
    parser.add_argument("--patience", type=whole(1), metavar="INT", help="passes without improvement to stop at [10]")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="INT", help="[0]")
    parsed = parser.parse(arguments)

    from rltrain.preferences.fitting import fit_preferences
    from rltrain.preferences.folder import Preferences
    from rltrain.process.stopping import Stopped
    from rltrain.rewards.ensemble import EnsembleConfig
    from rltrain.rewards.files import read_facts
    from rltrain.settings import validate
    from rltrain.training.signals import Interrupt

    names = "members", "hidden", "learning_rate", "weight_decay", "epochs", "patience"
    given = {name: value for name in names if (value := getattr(parsed, name)) is not None}
    config = validate(EnsembleConfig, given)
    prefs = Preferences.open(parsed.dir)
    try:
        with Interrupt(saying="ending; nothing is written"):
            path = fit_preferences(prefs, config, seed=parsed.seed)
    except Stopped as stop:
        return stop.exit_code
    from rltrain.cli.preferences_show import model_lines

    say(plain("\n".join([f"model      {path}", *model_lines(read_facts(path))])))
    return 0
