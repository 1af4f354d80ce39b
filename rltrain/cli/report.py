"""Prints the result of a run."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from rltrain.cli.output import say
from rltrain.cost.meter import as_words
from rltrain.distributed.ranks import is_first
from rltrain.errors import RLTrainError, plain
from rltrain.evaluation.episodes import Evaluation
from rltrain.runs.environment import env_option
from rltrain.trackers.service import places
from rltrain.training.session import RunResult


def report(result: RunResult, as_json: bool) -> int:
    """Prints the result of a run, on the first rank, and returns the exit code."""
    if not is_first():
        pass
    elif as_json:
        say(json.dumps(summary_of(result)))
    else:
        why = {
            "total_timesteps": "trained to the end",
            "stop_at_reward": "stopped at the reward asked for",
            "max_cost": f"stopped at its --max-cost; go on with: {resume_command(result.run_dir)} --max-cost MORE",
            "early_stop": "stopped early, as the agent was told to",
            "interrupted": f"interrupted; go on with: {resume_command(result.run_dir)}",
        }
        compiling = f" ({result.compile_seconds:.1f} s of them compiling)" if result.compile_seconds else ""
        training = f"{result.steps:,} steps in {result.seconds:.1f} s{compiling}, {why[result.stopped_by]}"
        rows = [("training", training)]
        if result.evaluation is not None:
            rows.append(("score", describe(result.evaluation)))
        if cost := as_words(result.cost):
            rows.append(("cost", plain(cost)))
        rows.append(("run", str(result.run_dir)))
        if result.picture is not None:
            rows.append(("picture", str(result.picture)))
        if any(result.run_dir.glob("events.*")):
            rows.append(("curves", tensorboard_command(result.run_dir)))
        rows += [(name, plain(where)) for name, where in places(result.run_dir).items()]
        say("\n".join(f"{name:<10}{text}" for name, text in rows))
    return exit_code(result)


def report_seeds(results: Mapping[int, RunResult | RLTrainError], as_json: bool) -> int:
    """Prints the results of runs by seed and returns the exit code."""
    failed = [result for result in results.values() if isinstance(result, RLTrainError)]
    ended = {seed: result for seed, result in results.items() if isinstance(result, RunResult)}
    if as_json:
        runs = [
            {"seed": seed, **({"error": result.cause} if isinstance(result, RLTrainError) else summary_of(result))}
            for seed, result in results.items()
        ]
        say(json.dumps({"runs": runs}))
    else:
        for seed, result in results.items():
            if isinstance(result, RLTrainError):
                say(f"seed {seed:<5}failed: {result.cause}")
                continue
            score = f"score {result.evaluation.mean_reward:,.1f}, " if result.evaluation else ""
            why = result.stopped_by.replace("_", " ")
            say(f"seed {seed:<5}{score}{result.steps:,} steps in {result.seconds:.1f} s ({why}), {result.run_dir}")
        scores = [result.evaluation.mean_reward for result in ended.values() if result.evaluation]
        if scores:
            spread = f"{fmean(scores):,.1f} ({min(scores):,.1f} to {max(scores):,.1f})"
            say(f"{'scores':<10}mean {spread} over {len(scores)} seeds")
        if ended:
            run_dir = next(iter(ended.values())).run_dir
            if any(run_dir.glob("events.*")):
                say(f"{'curves':<10}{tensorboard_command(run_dir)}")
    return failed[0].exit_code if failed else max(map(exit_code, ended.values()))


def summary_of(result: RunResult) -> dict[str, Any]:
    """The result of a run, as ``--json`` prints it."""
    evaluation = result.evaluation.summary() if result.evaluation else None
    keys = ("steps", "seconds", "stopped_by")
    summary = {"run_dir": str(result.run_dir), **{key: getattr(result, key) for key in keys}}
    return {**summary, "cost": result.cost, "evaluation": evaluation, "picture": str(result.picture or "") or None}


def exit_code(result: RunResult) -> int:
    """0, or the exit code for the signal that interrupted the run."""
    return 128 + result.signal if result.signal in (signal.SIGINT, signal.SIGTERM) else 0


def describe(evaluation: Evaluation) -> str:
    """The mean and spread of an evaluation, in one line."""
    low, high = evaluation.ci95()
    text = (
        f"{evaluation.mean_reward:.1f} ± {evaluation.std_reward:.1f} over {len(evaluation.returns)} episodes "
        f"(min {evaluation.returns.min():.1f}, max {evaluation.returns.max():.1f}, "
        f"IQM {evaluation.iqm:.1f}, 95% interval of the mean {low:.1f} to {high:.1f})"
    )
    if evaluation.successes.size:
        text += f", success rate {evaluation.successes.mean():.0%}"
    if evaluation.cut_short:
        text += f"; {evaluation.cut_short} of them cut short after {evaluation.lengths.max():,} steps at most"
    return f"{text}; time was up before {evaluation.missing} more" if evaluation.missing else text


def resume_command(run_dir: Path) -> str:
    """The command that goes on with a run, as it can be pasted."""
    return f"rltrain resume {shlex.quote(str(run_dir))}{env_option(run_dir)}"


def tensorboard_command(run_dir: Path) -> str:
    """The command that shows the curves of a run and of those beside it, as it can be pasted."""
    return f"rltrain tensorboard {shlex.quote(str(run_dir.parent.parent))}"
