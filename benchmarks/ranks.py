"""Compares PPO on CartPole on two ranks of one thread with one such rank.

    python -m benchmarks.ranks                           # 1,024 to 4,096 environments x 32 steps, 4 epochs of 4
    python -m benchmarks.ranks --envs 8192 --nproc 4

Two networks of 2 x 64 with tanh. A repeat is a run of the command line, with logging and without checkpoints,
evaluation and the start of the processes. The sides take turns, and the median of the repeats counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from typing import Any

from benchmarks import store
from benchmarks.seeds import train

STEPS = 32
MINIBATCHES = 4


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1024, 2048, 4096], metavar="N", help="[1024 2048 4096]")
    parser.add_argument("--nproc", type=int, default=2, metavar="K", help="ranks [2]")
    parser.add_argument("--iterations", type=int, default=40, help="in a repeat [40]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parsed = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    figures = store.load("ranks")
    print(f"| environments x steps | 1 rank, steps/s | {parsed.nproc} ranks, steps/s | ratio |")
    print("| --- | --- | --- | --- |")
    for num_envs in parsed.envs:
        rates: dict[int, list[float]] = {1: [], parsed.nproc: []}
        for _ in range(parsed.repeats):
            for nproc, measured in rates.items():
                measured.append(rate(num_envs, nproc, parsed.iterations))
        alone, together = (statistics.median(measured) for measured in rates.values())
        print(f"| {num_envs:,} x {STEPS} | {alone:,.0f} | {together:,.0f} | {together / alone:.2f} |", flush=True)
        figures[f"{num_envs} x {STEPS}, {parsed.nproc} ranks"] = {
            **{f"ranks {nproc}": [round(one) for one in measured] for nproc, measured in rates.items()},
            "ratio": round(together / alone, 2),
            "machine": {**store.machine(), "threads": "1 a rank"},
        }
        store.save("ranks", figures)


def rate(num_envs: int, nproc: int, iterations: int) -> float:
    """Environment steps per second of a run."""
    options: dict[str, Any] = {
        "num-envs": num_envs,
        "nproc": nproc,
        "total-timesteps": num_envs * STEPS * iterations,
        "agent.n-steps": STEPS,
        "agent.batch-size": num_envs * STEPS // MINIBATCHES,
        "agent.n-epochs": 4,
        "agent.normalize-obs": "false",
        "agent.normalize-reward": "false",
        "n-eval-episodes": 0,
        "save-freq": 0,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with tempfile.TemporaryDirectory() as folder:
        result = train("ppo", "rltrain/CartPole-v1", 0, folder, words)
    return float(result["steps"] / result["seconds"])


if __name__ == "__main__":
    main()
