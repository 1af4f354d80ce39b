"""``rltrain train``: trains an agent."""

from __future__ import annotations

import sys

from rltrain.cli.options import ENV_LISTS, describe_options, option_line, parse_overrides
from rltrain.cli.output import beside, say, wrapped
from rltrain.cli.typed import Kind, kinds_for, kinds_of
from rltrain.config import EnvConfig, TrainConfig
from rltrain.distributed.ranks import is_first
from rltrain.errors import ConfigError
from rltrain.naming.environments import typed_env
from rltrain.registry import agent_config_class, agent_spec, agent_specs, env_spec, find_env, twin_of
from rltrain.sb3.rl_zoo import zoo_settings
from rltrain.settings import build_config, canonical, load_config, merge

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
    "no-progress": "Show no progress: leaves the tracker console out.",
    "json": "Print the result as one JSON object.",
    "debug": "Show a traceback instead of a line when something fails.",
}

FLAGS = ("json", "no_progress")
KINDS = {"config": Kind(True, False), "zoo": Kind(True, False), "env": Kind(True, False)}
LISTS = ("trackers", "log_info", *ENV_LISTS)


def main(arguments: list[str]) -> int:
    """Trains; prints where everything is."""
    if any(argument in ("-h", "--help") for argument in arguments):
        say(_help(arguments))
        return 0
    kinds = {**KINDS, **dict(kinds_of(TrainConfig))}
    positional, options = parse_overrides(arguments, flags=FLAGS, kinds=kinds, lists=LISTS)
    algo, env_id = [*positional, None, None][:2]
    kinds.update(kinds_for(algo or options.get("algo"), env_id))
    positional, options = parse_overrides(arguments, flags=FLAGS, kinds=kinds, lists=LISTS)  # now with what they take
    as_json = options.pop("json", False)
    progress = not options.pop("no_progress", False)
    file = options.pop("config", None)
    zoo = options.pop("zoo", None)
    for name, value in (("config", file), ("zoo", zoo)):
        if value is True:
            raise ConfigError(f"'--{name}' needs a value.", "Name a YAML file.")
    settings = canonical(options)
    for name, given in zip(positional, (settings.get("algo"), settings.get("env", {}).get("id")), strict=False):
        if given is not None:
            raise ConfigError(f"'{name}' and '{given}' are both given.", "Give one of them.")
    if file is not None:
        settings = merge(canonical(load_config(file)), settings)
    num_seeds = settings.pop("num_seeds", 1)
    algo = positional.pop(0) if positional else settings.get("algo")
    env_id = typed_env(positional.pop(0)) if positional else settings.get("env", {}).get("id")
    if positional:
        raise ConfigError(f"'{positional[0]}' is too much.", "Usage: rltrain train ALGO ENV [options].")
    if algo is not None:
        agent_spec(str(algo))
    if env_id is None and algo is not None and isinstance(data := settings.get("data"), str):
        from rltrain.data.environment import recorded_environment

        recorded = recorded_environment(data) if agent_spec(str(algo)).learns_from_data else None
        env_id = None if recorded is None else recorded["id"]
    if algo is None or env_id is None:
        missing = "an agent and an environment" if algo is None else "an environment"
        raise ConfigError(
            f"Name {missing} to train.", "For example: rltrain train ppo rltrain/CartPole-v1 (or --config FILE)."
        )
    base = None
    if zoo is not None:
        base = zoo_settings(zoo, str(env_id), agent_config_class(str(algo)).model_fields), str(zoo)
    config, source = build_config(str(algo), str(env_id), settings, base=base)
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
