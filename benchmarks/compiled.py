"""Compares eager with compiled training of PPO in CartPole, in steps per second without logging.

    python -m benchmarks.compiled

The two sides take turns, and every figure is the median of the repeats. It uses one thread and measures the process's
own time, so other programs on the machine matter less. Seconds of compiling are wall time with an empty cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from typing import Any

import torch

from rltrain.compile import CompileClock
from rltrain.make import make_vec
from rltrain.registry import agent_class
from rltrain.settings import build_config
from rltrain.training.setup import keep_memory

ENV, STEPS = "rltrain/CartPole-v1", 32
SETTINGS: dict[str, tuple[int, dict[str, int]]] = {
    "1,024 x 32, 4 epochs of 4 minibatches": (1024, {"batch_size": 8192, "n_epochs": 4}),
    "8 x 32, 20 epochs of one": (8, {"batch_size": 256, "n_epochs": 20}),
}


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="[5]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each repeat, at least [2]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    print("| rollout and updates | eager, steps/s | compiled, steps/s | ratio | compiled in |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for name, (n, options) in SETTINGS.items():
            clock = CompileClock()
            sides = [Side(n, options, compiled) for compiled in (False, True)]
            rates: list[list[float]] = [[], []]
            for _ in range(parsed.repeats):
                for side, rate in zip(sides, rates, strict=True):
                    rate.append(side.rate(parsed.seconds))
            eager, compiled = map(statistics.median, rates)
            print(
                f"| {name} | {eager:,.0f} | {compiled:,.0f} | {compiled / eager:.2f} | {clock.seconds:.0f} s |",
                flush=True,
            )


class Side:
    """An agent in its environments, warmed up."""

    def __init__(self, n: int, options: dict[str, Any], compiled: bool) -> None:
        config, _ = build_config("ppo", ENV, {"num_envs": n, "agent": {"n_steps": STEPS, **options}})
        self.vec = make_vec(ENV, n)
        spaces = self.vec.single_observation_space, self.vec.single_action_space
        self.agent = agent_class("ppo")(*spaces, n, config.agent, seed=0)
        if compiled:
            self.agent.compile()
            self.vec.compile()  # type: ignore[attr-defined]
        self.obs = self.vec.reset(0)
        for _ in range(2):
            self.iterate()

    def iterate(self) -> None:
        """A rollout and its update."""
        for _ in range(STEPS):
            out = self.agent.act(self.obs)
            step = self.vec.step(out.action)
            self.agent.record(out, step)
            self.obs = step.obs
        self.agent.learn()

    def rate(self, seconds: float) -> float:
        """Environment steps per second."""
        steps, begin = 0, time.process_time()
        while (passed := time.process_time() - begin) < seconds:
            self.iterate()
            steps += STEPS * self.vec.num_envs
        return steps / passed


if __name__ == "__main__":
    main()
