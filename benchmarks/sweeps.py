"""Measures what a sweep gains over Stable-Baselines3's defaults, on seeds that the sweep has not seen.

    python -m benchmarks.sweeps --out sweeps

For each environment: a sweep of PPO from the defaults with one environment, one seed a trial, over
``benchmarks/sweep_space.yaml``; then the defaults and the best settings, each with five other seeds, on equally many
steps. Prints the median and the range of the mean return of 100 fresh episodes. Killed or interrupted, the same command
goes on with the sweeps that it has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import rltrain
from rltrain.search.request import SweepRequest
from rltrain.search.space import read_space
from rltrain.search.sweep import sweep
from rltrain.settings import load_config

ENVS = {"rltrain/CartPole-v1": 10_000, "rltrain/Pendulum-v1": 20_000}
SPACE = Path(__file__).with_name("sweep_space.yaml")
FIRST_SEED, SEEDS = 100, 5


def main() -> None:
    """Sweeps what is missing, compares, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sweeps"), help="folder of the sweeps [sweeps]")
    parser.add_argument("--trials", type=int, default=20, help="trials of each sweep [20]")
    parser.add_argument("--env", choices=[*ENVS], action="append", help="one of the environments [all]")
    parsed = parser.parse_args()
    rows = []
    for env in parsed.env or ENVS:
        steps = ENVS[env]
        name = f"ppo-{env.replace('/', '-')}"
        settings = {"total_timesteps": steps, "num_envs": 1, "n_eval_episodes": 20, "device": "cpu"}
        request = SweepRequest(
            "ppo", env, read_space(SPACE), settings, True, parsed.trials, out=parsed.out / name, name=name
        )
        result = sweep(request, lambda line: print(line, file=sys.stderr, flush=True))
        if result.signal is not None or result.config is None:
            sys.exit(f"{env}: the sweep is not complete; give the same command again")
        best = load_config(result.config)
        before, after = (scores(env, steps, agent) for agent in (request.config().model_dump(mode="json"), best))
        rows.append(f"| `{env}` | {steps:,} | {summary(before)} | {summary(after)} |")
    print(f"| environment | steps | Stable-Baselines3's defaults | best of {parsed.trials} trials |")
    print("\n".join(["| --- | --- | --- | --- |", *rows]))


def scores(env: str, steps: int, settings: dict[str, Any]) -> list[float]:
    """The score of each seed."""
    with tempfile.TemporaryDirectory() as folder:
        results = rltrain.train_seeds(
            "ppo",
            env,
            SEEDS,
            progress=False,
            trackers=[],
            run_dir=folder,
            seed=FIRST_SEED,
            total_timesteps=steps,
            num_envs=settings["num_envs"],
            num_threads=1,
            agent=settings["agent"],
            device="cpu",
        )
        runs = [result for result in results.values() if isinstance(result, rltrain.RunResult)]
    return [run.evaluation.mean_reward for run in runs if run.evaluation is not None]


def summary(values: list[float]) -> str:
    """The median and the range."""
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
