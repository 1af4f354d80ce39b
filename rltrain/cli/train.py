"""``rltrain train``: trains an agent."""

from __future__ import annotations

import sys

from rltrain.cli.options import describe_options, option_line
from rltrain.cli.output import beside, say, wrapped
from rltrain.cli.typed_run import typed_run
from rltrain.config import EnvConfig, TrainConfig
from rltrain.distributed.ranks import is_first
from rltrain.registry import agent_config_class, agent_specs, env_spec, find_env, twin_of
from rltrain.settings import build_config

USAGE = """usage: rltrain train ALGO ENV [options]
       rltrain train --config FILE [options]

Trains an agent, evaluates it on fresh episodes and draws its learning curve.
Options come on top of the settings tuned for the environment; '-' and '_' are
the same in their names.
"""
ARGUMENTS = {
    "  ALGO": "an agent: {agents} (rltrain agents)",
    "  ENV": "an environment, such as rltrain/CartPole-v1 (rltrain envs)",
}
OPTIONS = {
    "config TEXT": "YAML file with any of the options below.",
    "num-seeds INT": "Train so many runs at once, as one batch, with seeds from --seed on.",
    "zoo TEXT": "YAML file of RL Zoo, whose entry for ENV takes the place of ours.",
    "prices TEXT": "YAML file of prices of yours, of which the run keeps what this machine costs; see --max-cost.",
    "machine TEXT": "Machine in that file, if not the one that it calls here.",
    "no-progress": "Show no progress: leaves the tracker console out.",
    "json": "Print the result as one JSON object.",
    "debug": "Show a traceback instead of a line when something fails.",
}

FLAGS = ("json", "no_progress")


def main(arguments: list[str]) -> int:
    """Trains; prints where everything is."""
    if any(argument in ("-h", "--help") for argument in arguments):
        say(_help(arguments))
        return 0
    typed = typed_run("train", arguments, flags=FLAGS)
    config, source, num_seeds = typed.config, typed.source, typed.num_seeds
    as_json, progress = typed.own.get("json", False), not typed.own.get("no_progress", False)
    seeds = f"seed: {config.seed}" if num_seeds == 1 else f"seeds: {num_seeds} from {config.seed} on"
    notes = [f"settings: {source}, device: {config.device}, {seeds}"]
    if twin := twin_of(env_spec(config.env.id)):
        notes.append(f"note: '{twin}' is the same environment on the device of the policy, and much faster.")
    if is_first():
        print("\n".join(notes), file=sys.stderr)

    if num_seeds is True or num_seeds != 1:  # an option without its value is True
        from rltrain.cli.report import report_seeds
        from rltrain.training.multi_seed import start_seeds
        from rltrain.training.request import RunRequest

        return report_seeds(start_seeds(RunRequest(config, progress=progress, num_seeds=num_seeds)), as_json)

    from rltrain.cli.report import report
    from rltrain.training.launch import start
    from rltrain.training.request import RunRequest

    return report(start(RunRequest(config, progress=progress, command=["train", *arguments])), as_json)


def _help(arguments: list[str]) -> str:
    agents = agent_specs()
    named = [argument for argument in arguments if argument in agents]
    envs = [argument for argument in arguments if argument[:1] != "-" and find_env(argument) is not None]
    config, source = build_config(named[0], envs[0]) if named and envs else (None, "")
    lines = [USAGE]
    lines += [beside(name, text.format(agents=", ".join(agents)), 9) for name, text in ARGUMENTS.items()]
    lines += ["", *(option_line(f"--{option}", text) for option, text in OPTIONS.items()), ""]
    if config is None:
        text = "[...] is the default. Name ALGO and ENV before --help to see the settings tuned for them."
        lines += [wrapped(text), ""]
    else:
        lines += [f"[...] is the default, from {source}.", ""]
    lines += describe_options(TrainConfig, config, skip=("algo", "env", "agent"))
    lines += describe_options(EnvConfig, prefix="env.", skip=("id",))
    for name in named or [name for name in agents if "/" not in name]:  # agents of other libraries only if named
        options = describe_options(agent_config_class(name), config and config.agent, prefix="agent.")
        lines += ["", f"options of {name}, and their defaults:", *options]
    return "\n".join(lines)
