"""What an iteration of training would take on an H100. A projection: nobody has measured it.

    python -m benchmarks.projection
    python -m benchmarks.projection ppo --num-envs 16384 --n-steps 32

How it is computed stands in ``rltrain/cloud/projection.py``, here with the memory bandwidth and float32 rate of an H100
SXM by its data sheet. A kernel takes 4 us to launch from Python and, with ``--compile``, 1 us within a CUDA graph; a
call of a graph takes four launches from Python, three of them to copy its arguments.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from rltrain.cloud import projection
from rltrain.cost.prices import DataSheet
from rltrain.settings import build_config

ENVS = ("rltrain/CartPole-v1", "rltrain/MinAtar-Breakout-v1")
H100 = DataSheet(bytes_per_second=3.35e12, operations_per_second=67e12)  # without tensor cores


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="[ppo dqn pqn]")
    parser.add_argument("--envs", nargs="+", default=ENVS, metavar="ID", help=f"[{' '.join(ENVS)}]")
    parser.add_argument("--num-envs", type=int, default=4096, help="N [4096]")
    parser.add_argument("--n-steps", type=int, default=32, help="T; of DQN its train_freq [32]")
    parsed = parser.parse_args()
    print("| agent | environment | kernels | GB | GFLOP | ms eager | ms in graphs | bound then by | steps/s then |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for algo in parsed.agents or ("ppo", "dqn", "pqn"):
        for env in parsed.envs:
            found = counted(algo, env, parsed.num_envs, parsed.n_steps)
            times = bounds(found, graphs=True)
            eager, graphs = max(bounds(found, graphs=False).values()), max(times.values())
            bound = max(times, key=times.__getitem__)
            print(
                f"| {algo} | {env} | {found['kernels']:,} | {found['bytes'] / 1e9:.2f} | {found['flops'] / 1e9:.1f} "
                f"| {1e3 * eager:.2f} | {1e3 * graphs:.2f} | {bound} "
                f"| {parsed.num_envs * parsed.n_steps / graphs / 1e6:.0f} million |"
            )


def bounds(found: dict[str, int], *, graphs: bool) -> dict[str, float]:
    """Seconds that each of three things takes at least, on an H100."""
    return projection.bounds(found, H100, graphs=graphs)


def counted(algo: str, env: str, num_envs: int, n_steps: int, settings: dict[str, Any] | None = None) -> dict[str, int]:
    """What an iteration is made of.

    Args:
        algo: The agent.
        env: The environment's id.
        num_envs: N.
        n_steps: T; of DQN its ``train_freq``.
        settings: All hyperparameters that are not the agent's own defaults. None for tuned ones but for the size of
            rollouts, with 4 minibatches an epoch.
    """
    sizes: dict[str, Any] = {"train_freq": n_steps, "learning_starts": 0}
    if algo != "dqn":
        sizes = {"n_steps": n_steps, "batch_size": num_envs * n_steps // 4}
    base = None if settings is None else ({}, "the agent's own defaults")
    config, _ = build_config(algo, env, {"num_envs": num_envs, "agent": settings or sizes}, base=base)
    return projection.counted(config)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
