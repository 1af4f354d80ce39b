"""Compares eager with compiled training in CartPole, in steps per second without logging.

    python -m benchmarks.compiled
    python -m benchmarks.compiled --only DQN

The two sides take turns, and every figure is the median of the repeats. It uses one thread and measures the process's
own time, so other programs on the machine matter less. Seconds of compiling are wall time with an empty cache. DQN's
settings are Stable-Baselines3's defaults with a smaller replay, and RL Zoo's for CartPole.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch

from benchmarks.measures import ZOO_DQN
from benchmarks.peers.ours import ENV, Loop
from rltrain.compile import CompileClock

ZOO = {**ZOO_DQN, "policy_kwargs": {"net_arch": [256, 256]}}
SETTINGS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "PPO, 1,024 x 32, 4 epochs of 4 minibatches": ("ppo", 1024, {"n_steps": 32, "batch_size": 8192, "n_epochs": 4}),
    "PPO, 256 x 32, 4 epochs of 4 minibatches": ("ppo", 256, {"n_steps": 32, "batch_size": 2048, "n_epochs": 4}),
    "PPO, 64 x 32, 4 epochs of 4 minibatches": ("ppo", 64, {"n_steps": 32, "batch_size": 512, "n_epochs": 4}),
    "PPO, 8 x 32, 20 epochs of one": ("ppo", 8, {"n_steps": 32, "batch_size": 256, "n_epochs": 20}),
    "DQN, 1 environment, defaults": ("dqn", 1, {"buffer_size": 100_000}),
    "DQN, 8 environments, defaults": ("dqn", 8, {"buffer_size": 100_000}),
    "DQN, 1 environment, as in RL Zoo": ("dqn", 1, ZOO),
    "DQN, 8 environments, as in RL Zoo": ("dqn", 8, {**ZOO, "train_freq": 32}),
}


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="[5]")
    parser.add_argument("--only", default="", metavar="TEXT", help="settings whose name contains this [all]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each repeat, at least [2]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    print("| rollout and updates | eager, steps/s | compiled, steps/s | ratio | compiled in |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name, (algo, n, options) in SETTINGS.items():
            if parsed.only not in name:
                continue
            clock = CompileClock()
            sides = [Side(algo, n, options, compiled) for compiled in (False, True)]
            rates: list[list[float]] = [[], []]
            for _ in range(parsed.repeats):
                for side, rate in zip(sides, rates, strict=True):
                    rate.append(side.rate(parsed.seconds))
            eager, compiled = map(statistics.median, rates)
            print(
                f"| {name} | {eager:,.0f} | {compiled:,.0f} | {compiled / eager:.2f} | {clock.seconds:.0f} s |",
                flush=True,
            )


class Side(Loop):
    """An agent in its environments, past the steps before learning starts."""

    def __init__(self, algo: str, n: int, options: dict[str, Any], compiled: bool) -> None:
        super().__init__(algo, ENV, {"num_envs": n, "agent": options})
        if compiled:
            self.agent.compile()
            self.env.compile()  # type: ignore[attr-defined]
        for _ in range(getattr(self.setup.config.agent, "learning_starts", 0) // self.transitions + 2):
            self.iterate()

    def rate(self, seconds: float) -> float:
        """Environment steps per second."""
        steps, begin = 0, time.process_time()
        while (passed := time.process_time() - begin) < seconds:
            steps += self.iterate()
        return steps / passed


if __name__ == "__main__":
    main()
