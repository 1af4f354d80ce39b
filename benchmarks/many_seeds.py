"""Compares PPO and PQN on CartPole with many seeds at once and with one run after another.

    python -m benchmarks.many_seeds                      # 8 seeds, one thread
    python -m benchmarks.many_seeds "RL Zoo" --num-seeds 16 --threads 2

Networks are 2 x 64; PPO has two of them. A repeat is a whole run with logging and the final checkpoint, without the
evaluation and the plot after it. K runs one after another count as K times one run. The sides take turns, and the
median counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from typing import Any

import torch

from benchmarks import store
from rltrain.config import TrainConfig
from rltrain.settings import build_config
from rltrain.training.launch import start
from rltrain.training.multi_seed import start_seeds
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult

SETTINGS: dict[str, dict[str, Any]] = {  # and the iterations in a repeat
    "RL Zoo": {"num_envs": 8, "n_steps": 32, "batch_size": 256, "n_epochs": 20, "iterations": 12},
    "small minibatches": {"num_envs": 8, "n_steps": 32, "batch_size": 64, "n_epochs": 4, "iterations": 40},
    "SB3, shorter rollouts": {"num_envs": 8, "n_steps": 128, "batch_size": 64, "n_epochs": 10, "iterations": 5},
    "tuned": {"num_envs": 128, "n_steps": 30, "batch_size": 320, "n_epochs": 2, "iterations": 12},
    "large": {"num_envs": 1024, "n_steps": 32, "batch_size": 8192, "n_epochs": 4, "iterations": 2},
    "PQN": {"algo": "pqn", "num_envs": 32, "n_steps": 32, "batch_size": 128, "n_epochs": 4, "iterations": 12},
}


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="SETTINGS", default=list(SETTINGS), help=", ".join(SETTINGS))
    parser.add_argument("--num-seeds", type=int, default=8, help="[8]")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on both sides [1]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    figures = store.load("many_seeds")
    print("| settings | environments x steps | minibatch | epochs | one after another | at once | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in parsed.settings:
        alone, together = measure(SETTINGS[name], parsed.num_seeds, parsed.threads, parsed.repeats)
        s, ratio = SETTINGS[name], statistics.median(together) / statistics.median(alone)
        print(
            f"| {name} | {s['num_envs']:,} x {s['n_steps']} | {s['batch_size']:,} | {s['n_epochs']} "
            f"| {statistics.median(alone):,.0f} | {statistics.median(together):,.0f} | {ratio:.1f} |",
            flush=True,
        )
        figures[f"{name}, {parsed.num_seeds} seeds, {parsed.threads} threads"] = {
            "alone": [round(rate) for rate in alone],
            "together": [round(rate) for rate in together],
            "ratio": round(ratio, 2),
            "machine": store.machine(),
        }
        store.save("many_seeds", figures)


def measure(settings: dict[str, Any], num_seeds: int, threads: int, repeats: int) -> tuple[list[float], list[float]]:
    """Steps per second of one run, and of all seeds at once, for each repeat."""
    algo = settings.get("algo", "ppo")
    agent: dict[str, Any] = {name: settings[name] for name in ("n_steps", "batch_size", "n_epochs")}
    steps = settings["num_envs"] * settings["n_steps"] * settings["iterations"]
    alone, together = [], []
    with tempfile.TemporaryDirectory() as folder:
        agent["policy_kwargs"] = {"net_arch": [64, 64]}
        options = {"num_envs": settings["num_envs"], "total_timesteps": steps, "num_threads": threads, "agent": agent}
        rest = {"run_dir": folder, "n_eval_episodes": 0, "save_freq": 0}
        config: TrainConfig = build_config(algo, "rltrain/CartPole-v1", {**options, **rest})[0]
        for repeat in range(repeats + 1):
            one = start(RunRequest(config, progress=False)).seconds
            results = start_seeds(RunRequest(config, progress=False, num_seeds=num_seeds)).values()
            many = max(result.seconds for result in results if isinstance(result, RunResult))
            if repeat:  # the first is to warm up
                alone.append(steps / one)
                together.append(num_seeds * steps / many)
    return alone, together


if __name__ == "__main__":
    main()
