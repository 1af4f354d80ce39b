"""``rltrain estimate``: what a run will take, before it is started; and a worksheet that compares ways to act."""

from __future__ import annotations

import json
import sys

from rltrain.cli.options import Parser, option_line
from rltrain.cli.output import say
from rltrain.cli.tables import clock, entries, size, table
from rltrain.cli.typed import parse_value
from rltrain.cli.typed_run import typed_run
from rltrain.distributed.ranks import is_first
from rltrain.errors import ConfigError

USAGE = """usage: rltrain estimate ALGO ENV [options]
       rltrain estimate --compare FILE
       rltrain estimate --example prices|worksheet

Tries a run for some seconds, and says what all of it will take: time, memory,
energy and money. What the trial writes is thrown away.

  ALGO   an agent (rltrain agents)
  ENV    an environment, such as rltrain/CartPole-v1 (rltrain envs)

{options}

All options of 'rltrain train' are those of the run, such as
--total-timesteps 1000000 or --nproc 2."""
OPTIONS = {
    "prices FILE": "YAML file of machines and prices of yours",
    "machine NAME": "which machine of it this one is [the one that it calls here]",
    "seconds NUMBER": "how long to measure, after the warm-up [10]",
    "cost.energy": "ask codecarbon, offline, for this machine's energy (rltrain[energy])",
    "compare FILE": "compare a policy of your own with other ways to act, by a worksheet of yours",
    "example NAME": "print an example of such a file",
    "json": "print one JSON object",
    "debug": "show a traceback instead of a line when something fails",
}
FLAGS = ("json",)
TEXTS = ("seconds", "compare", "example")


def main(arguments: list[str]) -> int:
    """Estimates, compares, or prints an example."""
    if any(argument in ("-h", "--help") for argument in arguments):
        say(USAGE.format(options="\n".join(option_line(f"--{option}", text) for option, text in OPTIONS.items())))
        return 0
    names = {argument.partition("=")[0] for argument in arguments}
    if names & {"--compare", "--example"}:
        return _files(arguments)
    typed = typed_run("estimate", arguments, flags=FLAGS, texts=TEXTS)
    config = typed.config
    seconds = parse_value(typed.own.get("seconds", "10"))
    if type(seconds) not in (int, float) or not 0 < seconds <= 3600:
        raise ConfigError(f"--seconds {typed.own['seconds']} is no time to measure.", "Give seconds, 3600 at most.")
    if typed.num_seeds != 1:
        raise ConfigError("One run is tried, and --num-seeds trains several.", "Leave it out.")

    from rltrain.cost.prices import read_prices

    prices = None if typed.prices is None else read_prices(typed.prices)
    if is_first():
        print(f"settings: {typed.source}; trying the run for {seconds:g} s ...", file=sys.stderr)

    from rltrain.cloud.estimate import parts_of, project
    from rltrain.cloud.trial import try_run
    from rltrain.process.stopping import Stopped

    try:
        trial = try_run(config, float(seconds), command=["estimate", *arguments])
    except Stopped as stop:
        return stop.exit_code
    if trial is None:
        return 0
    found = project(config, trial, prices, config.cost.machine)
    parts = parts_of(config, trial)
    if typed.own.get("json"):
        run = {"algo": config.algo, "env": config.env.id, "total_timesteps": config.total_timesteps}
        dated = None if prices is None else prices.date.isoformat()
        facts = {"run": run, "trial": trial.as_dict(), "seconds_here": parts, "prices_of": dated}
        say(json.dumps({**facts, "machines": [each.as_dict() for each in found]}))
        return 0
    speed = f"{trial.steps_per_second:,.0f} steps/s ({trial.slowest:,.0f} to {trial.fastest:,.0f})"
    rows = [
        ("trial", f"{speed} in {trial.updates:,} updates, {trial.left_out:,} before them left out"),
        ("run", f"{config.total_timesteps:,} steps: " + ", ".join(f"{k} {clock(v)}" for k, v in parts.items() if v)),
        ("memory", size(trial.memory_bytes) + (", with the replay full" if _keeps_replay(config) else "")),
    ]
    if trial.accelerator_bytes is not None:
        rows.append((trial.device, size(trial.accelerator_bytes)))
    if trial.evaluation_seconds is not None:
        rows.append(("evaluations", "by a policy that has hardly learned: longer episodes take longer"))
    say(entries(rows))
    lines = []
    for each in found:
        time = "" if each.seconds is None else clock(each.seconds)
        if each.low is not None and each.high is not None and each.low < each.high:
            time += f" ({clock(each.low)} to {clock(each.high)})"
        energy = "" if each.energy_kwh is None else f"{each.energy_kwh:.3g}"
        money = "" if each.money is None else f"{each.money:.4g} {each.currency}"
        lines.append((each.machine, time, energy, money, each.worth))
    say("\n" + table(("machine", "time", "kWh", "cost", "what that is worth"), lines, right=("kWh", "cost")))
    if prices is not None:
        say(f"\nprices of {prices.date.isoformat()}, from {typed.prices}")
    return 0


def _keeps_replay(config: object) -> bool:
    return getattr(getattr(config, "agent", None), "buffer_size", None) is not None


def _files(arguments: list[str]) -> int:
    """What needs no run: an example, or a worksheet."""
    parser = Parser("estimate", "Compare ways to act by a worksheet, or print an example of a file.")
    parser.add_argument("--compare", metavar="FILE")
    parser.add_argument("--example", metavar="prices|worksheet")
    parser.add_argument("--json", action="store_true")
    parsed = parser.parse(arguments)
    if parsed.example is not None:
        if parsed.compare is not None or parsed.json:
            raise ConfigError("--example prints a file, and takes nothing beside it.", "Leave the rest out.")
        from rltrain.cost.prices import example

        say(example(parsed.example).rstrip())
        return 0
    from rltrain.cost.worksheet import as_text, compare, read_worksheet

    compared = compare(read_worksheet(parsed.compare))
    say(json.dumps(compared) if parsed.json else as_text(compared))
    return 0
