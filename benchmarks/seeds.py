"""How reliably and how fast an agent learns: one fresh process for each seed, one line for the table.

    python -m benchmarks.seeds ppo rltrain/CartPole-v1 --seeds 5 --stop-at-reward 475
    python -m benchmarks.seeds ppo rltrain/Pendulum-v1 --seeds 5

Steps and seconds are those of learning: from the first environment step to the end of training, logging
and checkpoints included, start of the process and final evaluation not. The score is the mean return of
100 fresh episodes of the final policy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import torch


def main() -> None:
    """Runs the seeds one after another and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algo", metavar="ALGO")
    parser.add_argument("env", metavar="ENV")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--first", type=int, default=0, help="the first seed [0]")
    parsed, options = parser.parse_known_args()

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(parsed.first, parsed.first + parsed.seeds):
            result = train(parsed.algo, parsed.env, seed, folder, options)
            score = result["evaluation"]["mean_reward"]
            line = f"seed {seed}: {result['steps']:,} steps, {result['seconds']:.2f} s, score {score:.1f}"
            print(f"{line}, {result['stopped_by']}", file=sys.stderr)
            results.append(result)
    scores = [result["evaluation"]["mean_reward"] for result in results]
    seeds = f"{parsed.first}-{parsed.first + parsed.seeds - 1}"
    steps = spread([result["steps"] for result in results], "{:,.0f}")
    seconds = spread([result["seconds"] for result in results], "{:.1f}")
    print("| agent | environment | seeds | steps: median (range) | seconds: median (range) | score: median (range) |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| {parsed.algo} | {parsed.env} | {seeds} | {steps} | {seconds} | {spread(scores, '{:.1f}')} |")
    print(f"\n{os.cpu_count()} CPU cores, torch {torch.__version__}")


def train(algo: str, env: str, seed: int, folder: str, options: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "rltrain", "train", algo, env, "--seed", str(seed), "--run-dir", folder]
    command += ["--json", "--no-progress", *options]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(finished.stdout))


def spread(values: list[float], form: str) -> str:
    """``median (least to greatest)``."""
    median, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({low} to {high})"


if __name__ == "__main__":
    main()
