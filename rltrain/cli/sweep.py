"""``rltrain sweep``: searches for hyperparameters."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rltrain.cli.options import ENV_LISTS, option_line, parse_overrides
from rltrain.cli.output import say
from rltrain.cli.typed import Kind, kinds_for, kinds_of
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, did_you_mean, plain
from rltrain.naming.environments import typed_env
from rltrain.registry import agent_spec
from rltrain.settings import canonical, load_config, merge

USAGE = """usage: rltrain sweep ALGO ENV [options]

Trains an agent many times with settings drawn from a search space, each time
the more promising ones (Optuna), and writes the best as a file for 'rltrain
train --config'. The same command goes on with a study that was interrupted or
killed.

  ALGO   an agent (rltrain agents)
  ENV    an environment, such as rltrain/CartPole-v1 (rltrain envs)

{options}

All options of 'rltrain train' are the same for all trials, such as
--total-timesteps 100000, --num-envs 16 or --agent.gamma 0.99. A trial's score
is its evaluation at the end (--n-eval-episodes); it is evaluated five times on
the way there unless --eval-freq says otherwise."""
OPTIONS = {
    "space FILE": "YAML file of what is varied [the space that comes with the agent]",
    "trials INT": "trials that the study shall have in the end [50]",
    "jobs INT": "trials trained at once [1]",
    "seeds INT": "seeds of each trial, whose mean score counts [1]",
    "from-defaults": "start from the agent's own defaults, not from the settings tuned for ENV",
    "out FOLDER": "[sweeps/<algo>-<env>]",
    "storage URL": "database that several machines share [the file study.journal in the folder]",
    "sampler {samplers}": "[tpe]",
    "pruner {pruners}": "which trials end early, by their evaluations [median]",
    "ray ADDRESS": "train on a cluster of Ray: its address, auto, or local to start one here",
    "keep-runs": "keep the run folder of every trial",
    "config FILE": "YAML file of further settings",
    "json": "print the result as one JSON object",
    "debug": "show a traceback instead of a line when something fails",
}

FLAGS = ("json", "from_defaults", "keep_runs")
TEXTS = ("space", "out", "storage", "config", "sampler", "pruner", "ray")
NUMBERS = {"trials": 50, "jobs": 1, "seeds": 1}


def main(arguments: list[str]) -> int:
    """Searches; prints where everything is."""
    from rltrain.search.ray_pool import need_ray
    from rltrain.search.study import PRUNERS, SAMPLERS, need_optuna

    if any(argument in ("-h", "--help") for argument in arguments):
        known = {"samplers": "|".join(SAMPLERS), "pruners": "|".join(PRUNERS)}
        lines = [option_line(f"--{option.format(**known)}", text) for option, text in OPTIONS.items()]
        say(USAGE.format(options="\n".join(lines)))
        return 0
    kinds = {name: Kind(True, False) for name in TEXTS} | dict(kinds_of(TrainConfig))
    lists = ("trackers", *ENV_LISTS)
    positional, options = parse_overrides(arguments, flags=FLAGS, kinds=kinds, lists=lists)
    kinds |= kinds_for(*[*positional, None, None][:2])
    positional, options = parse_overrides(arguments, flags=FLAGS, kinds=kinds, lists=lists)
    if len(positional) != 2:
        raise ConfigError(
            "Name an agent and an environment." if len(positional) < 2 else f"'{positional[2]}' is too much.",
            "For example: rltrain sweep ppo rltrain/CartPole-v1 --trials 20",
        )
    for name in TEXTS:
        if options.get(name) is True:
            raise ConfigError(f"'--{name}' needs a value.", "See 'rltrain sweep --help'.")
    if "num_seeds" in options:
        raise ConfigError("'--num-seeds' is not for sweeps.", "Give --seeds.")
    if "trackers" in options:
        raise ConfigError("The runs of a sweep have no trackers.", "Leave --trackers out.")
    algo, env = positional[0], typed_env(positional[1])
    agent_spec(algo)
    numbers: dict[str, Any] = {name: _whole(name, options.pop(name, default)) for name, default in NUMBERS.items()}
    as_json = options.pop("json", False)
    flags: dict[str, Any] = {name: options.pop(name, False) for name in FLAGS[1:]}
    sampler = _one_of("sampler", options.pop("sampler", "tpe"), SAMPLERS)
    pruner = _one_of("pruner", options.pop("pruner", "median"), PRUNERS)
    space, storage, config, ray = (options.pop(name, None) for name in ("space", "storage", "config", "ray"))
    out = Path(options.pop("out", None) or Path("sweeps") / f"{algo}-{env}".replace("/", "-").replace(":", "-"))
    settings = canonical(options)
    if config is not None:
        settings = merge(canonical(load_config(config)), settings)
    need_optuna()
    if ray is not None:
        need_ray()

    from rltrain.search.request import SweepRequest
    from rltrain.search.space import read_space, shipped_space
    from rltrain.search.sweep import Sweep

    found = shipped_space(algo) if space is None else read_space(space)
    choices: dict[str, Any] = {"sampler": sampler, "pruner": pruner, "storage": storage, "name": out.name, "ray": ray}
    request = SweepRequest(algo, env, found, settings, out=out, **numbers, **flags, **choices)
    sweep = Sweep(request, _tell)
    print(f"space: {found.source}, over: {request.source}; {request.out}", file=sys.stderr)
    result = sweep.run()
    if as_json:
        say(json.dumps(asdict(result), default=str))
    else:
        say("\n".join(_lines(result, arguments)))
    return 0 if result.signal is None else 128 + result.signal


def _tell(line: str) -> None:
    print(plain(line), file=sys.stderr, flush=True)


def _lines(result: Any, arguments: list[str]) -> list[str]:
    import shlex

    states = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    rows = [("trials", states or "none")]
    if result.best is not None:
        seeds = len(result.best["scores"])
        rows.append(("best", f"{result.best['value']:,.1f}, trial {result.best['number']}, {seeds} seeds"))
    if result.importances:
        most = list(result.importances.items())[:5]
        rows.append(("decided by", ", ".join(f"{name.removeprefix('agent.')} {share:.0%}" for name, share in most)))
    rows += [(name, str(path)) for name, path in (("table", result.table), ("picture", result.picture)) if path]
    if result.config is not None:
        rows.append(("config", f"rltrain train --config {shlex.quote(str(result.config))}"))
    if result.signal is not None:
        rows.append(("go on with", shlex.join(["rltrain", "sweep", *arguments])))
    return [f"{name:<12}{text}" for name, text in rows]


def _whole(name: str, value: Any) -> int:
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if type(number) is not int or not 1 <= number <= 1_000_000:
        raise ConfigError(f"--{name} {value} does not fit.", "Give a whole number of at least 1.")
    return number


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"There is no {name} '{value}'.", did_you_mean(value, known, f"Known: {', '.join(known)}."))
    return value
