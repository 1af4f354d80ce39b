"""Measures what memory is worth: PPO with a recurrent layer, with the last observations stacked, and with neither.

    python -m benchmarks.memory --seeds 5
    python -m benchmarks.memory --seeds 5 --env rltrain/MemoryChain-v0 --kind gru

All of them have the shipped settings of the environment (``configs/ppo``) and the same number of steps; only the memory
differs. The figures of a seed are kept in ``benchmarks/results/memory.json`` as soon as they are there, and what is
there already is not measured again. Scores are mean returns of 400 episodes after training; seconds are those of
learning.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from typing import Any

import torch

import rltrain
from benchmarks import store

STACK = "12 observations"
ENVS = {  # and what is measured in them: cards are categories, which cannot be stacked
    "rltrain/MemoryChain-v0": ("gru", "lstm", "mingru", STACK, "none"),
    "rltrain/RepeatPrevious-v0": ("gru", "lstm", "mingru", "none"),
}
KINDS: dict[str, dict[str, Any]] = {
    "gru": {"agent": {"policy_kwargs": {"memory": "gru"}}},
    "lstm": {"agent": {"policy_kwargs": {"memory": "lstm"}}},
    "mingru": {"agent": {"policy_kwargs": {"memory": "mingru"}}},
    STACK: {"agent": {"policy_kwargs": {"memory": None}}, "env_options": {"frame_stack": 12}},
    "none": {"agent": {"policy_kwargs": {"memory": None}}},
}
EPISODES = 400


def main() -> None:
    """Runs missing seeds and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--env", choices=ENVS, action="append", help=f"{[*ENVS]}")
    parser.add_argument("--kind", choices=[*KINDS], action="append", help=f"{[*KINDS]}")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    figures = store.load("memory")
    print("| environment | memory | steps | score: median (range) | seconds: median (range) |")
    print("| --- | --- | --- | --- | --- |")
    for env in parsed.env or ENVS:
        for kind in [kind for kind in ENVS[env] if kind in (parsed.kind or KINDS)]:
            runs = []
            for seed in range(parsed.seeds):
                key = f"{env}, {kind}, seed {seed}"
                if key not in figures:
                    figures[key] = {**train(env, kind, seed), "machine": store.machine()}
                    store.save("memory", figures)
                runs.append(figures[key])
            scores, seconds = (spread([run[name] for run in runs]) for name in ("score", "seconds"))
            print(f"| {env} | {kind} | {runs[0]['steps']:,} | {scores} | {seconds} |", flush=True)


def train(env: str, kind: str, seed: int) -> dict[str, Any]:
    """One run to its end."""
    with tempfile.TemporaryDirectory() as folder:
        result = rltrain.train(
            "ppo", env, progress=False, run_dir=folder, seed=seed, save_freq=0, n_eval_episodes=EPISODES, **KINDS[kind]
        )
    assert result.evaluation is not None
    return {
        "steps": result.steps,
        "score": round(result.evaluation.mean_reward, 3),
        "seconds": round(result.seconds, 1),
    }


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
