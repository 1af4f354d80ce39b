"""Measures how reliably and how fast an agent learns: one fresh process for each seed, one line of a table.

    python -m benchmarks.seeds ppo rltrain/CartPole-v1 --seeds 5 --stop-at-reward 475
    python -m benchmarks.seeds ppo rltrain/Pendulum-v1 --seeds 5

``--save`` keeps the figures in ``benchmarks/results/<agent>``, where ``benchmarks.gallery`` finds them. Figures of
other seeds stay if options, settings and machine are the same: ``--first 3 --seeds 2 --save`` extends three seeds to
five. The settings, from ``configs``, are kept beside the figures.

Steps and seconds are those of learning: from the first environment step to the end of training, with logging and
checkpoints, without the start of the process and the final evaluation. The score is the mean return of 100 new episodes
of the final policy.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import store
from rltrain.registry import env_spec
from rltrain.settings import tuned_defaults


def main() -> None:
    """Runs the seeds one after another and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algo", metavar="ALGO")
    parser.add_argument("env", metavar="ENV")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--first", type=int, default=0, help="the first seed [0]")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    parsed, options = parser.parse_known_args()

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(parsed.first, parsed.first + parsed.seeds):
            result = train(parsed.algo, parsed.env, seed, folder, options)
            score = result["evaluation"]["mean_reward"]
            line = f"seed {seed}: {result['steps']:,} steps, {result['seconds']:.2f} s, score {score:.1f}"
            print(f"{line}, {result['stopped_by']}", file=sys.stderr)
            results.append(
                {"seed": seed, **{key: result[key] for key in ("steps", "seconds", "stopped_by", "evaluation")}}
            )
            if parsed.save:
                results = save(parsed.algo, parsed.env, options, results)
    seeds = f"{results[0]['seed']}-{results[-1]['seed']}"
    print("| agent | environment | seeds | steps: median (range) | seconds: median (range) | score: median (range) |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| {parsed.algo} | {parsed.env} | {seeds} | {' | '.join(spreads(results))} |")
    print("\n" + ", ".join(f"{name} {value}" for name, value in store.machine().items()))


def save(algo: str, env: str, options: list[str], results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keeps runs beside those of other seeds made in the same way, and returns them all."""
    name = f"{algo}/{store.bare(env)}"
    before = store.load(name)
    alike = {"options": options, "settings": tuned_defaults(algo, env_spec(env))[0], "machine": store.machine()}
    joins = all(before.get(key) == value for key, value in alike.items())
    by_seed = {run["seed"]: run for run in (*(before["runs"] if joins else ()), *results)}
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    first = f" --first {runs[0]['seed']}" if runs[0]["seed"] else ""
    command = f"python -m benchmarks.seeds {algo} {env} --seeds {len(runs)}{first} --save {shlex.join(options)}".strip()
    store.save(name, {"agent": algo, "env": env, "command": command, **alike, "runs": runs})
    return runs


def train(algo: str, env: str, seed: int, folder: str, options: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "rltrain", "train", algo, env, "--seed", str(seed), "--run-dir", folder]
    command += ["--json", "--no-progress", *options]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout))


def spreads(runs: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Steps, seconds and scores of runs: each the median and the range."""
    scores = [run["evaluation"]["mean_reward"] for run in runs]
    digits = 1 if max(map(abs, scores)) >= 10 else 3
    return (
        spread([run["steps"] for run in runs], "{:,.0f}"),
        spread([run["seconds"] for run in runs], "{:.1f}"),
        spread(scores, f"{{:.{digits}f}}"),
    )


def spread(values: list[float], form: str) -> str:
    """``median (least to greatest)``."""
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
