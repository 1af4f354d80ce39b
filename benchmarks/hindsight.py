"""Measures what hindsight buys: DQN on BitFlip with and without it, over numbers of bits.

    python -m benchmarks.hindsight
    python -m benchmarks.hindsight --bits 10 --seeds 5

The settings are those that ship for ``rltrain/BitFlip-v0``; without hindsight ``n_sampled_goal`` is 0. The table has
the share of 100 new episodes that the final policy ends with success: the median over seeds, and the range. Figures are
kept in ``benchmarks/results`` after every run, and runs that are kept are not repeated.
"""

from __future__ import annotations

import argparse
import tempfile
from statistics import median

import torch

import rltrain
from benchmarks import store

BITS = (5, 10, 20)
WAYS = {"with hindsight": 4, "without": 0}


def main() -> None:
    """Runs what is missing and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--bits", type=int, action="append", help=f"numbers of bits {list(BITS)}")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    kept = store.load("hindsight")
    print(f"| bits | {' | '.join(f'{way}: success' for way in WAYS)} |")
    print("| --- | --- | --- |")
    for bits in parsed.bits or BITS:
        cells = []
        for way, n_sampled_goal in WAYS.items():
            runs = kept.setdefault(str(bits), {}).setdefault(way, {})
            for seed in map(str, range(parsed.seeds)):
                if seed not in runs:
                    runs[seed] = success(bits, n_sampled_goal, int(seed))
                    store.save("hindsight", kept)
            rates = [100 * runs[seed] for seed in map(str, range(parsed.seeds))]
            cells.append(f"{median(rates):.0f}% ({min(rates):.0f} to {max(rates):.0f})")
        print(f"| {bits} | {' | '.join(cells)} |", flush=True)


def success(bits: int, n_sampled_goal: int, seed: int) -> float:
    """The share of episodes that the policy of a run ends with success."""
    with tempfile.TemporaryDirectory() as folder:
        run = rltrain.train(
            "dqn",
            "rltrain/BitFlip-v0",
            env_kwargs={"bits": bits},
            env_options={"max_episode_steps": bits},
            agent={"n_sampled_goal": n_sampled_goal},
            seed=seed,
            progress=False,
            save_freq=0,
            run_dir=folder,
        )
    assert run.evaluation is not None
    return float(run.evaluation.successes.mean())


if __name__ == "__main__":
    main()
