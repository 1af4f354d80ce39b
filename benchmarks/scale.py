"""Measures how the cost of training grows: with environments, width, observations and agents at once.

    python -m benchmarks.scale
    python -m benchmarks.scale environments width --threads 2 --repeats 5

PPO collects 16 steps of each environment and learns from them in 4 epochs of 4 minibatches, in networks of 2 x 64 on
CartPole with 1,024 environments unless the row says otherwise. Observations of another size are those of an environment
that only adds noise to its state. Agents at once are trained as one batch (``--num-seeds``), each with 8 environments.
A row is a process of its own: the median of the times of an iteration after two to warm up, and the most memory that it
took beyond what the imports take. The exponent is that of the time between this row and the one above: 0 where more
costs nothing, 1 where it costs in proportion.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor

import rltrain
from benchmarks import store
from rltrain.settings import build_config
from rltrain.training.multi_seed import start_seeds
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult

STEPS, EPOCHS, MINIBATCHES = 16, 4, 4
ITERATIONS = 40
"""Of a run of agents at once."""
AXES: dict[str, tuple[int, ...]] = {
    "environments": tuple(4**k for k in range(9)),
    "width": (64, 128, 256, 512, 1024),
    "observation": (4, 16, 64, 256, 1024, 4096),
    "agents": (1, 2, 4, 8, 16, 32, 64),
}


class Noisy(NamedTuple):
    """The state of :class:`Wanderer`."""

    place: Tensor  # (N, size)


class Wanderer(rltrain.TensorEnv[Noisy]):
    """Adds noise to its state, which it shows; the reward is 1 for pushing the first coordinate away from its sign."""

    action_space = spaces.Discrete(2)
    max_episode_steps = 200

    def __init__(self, size: int = 4, **kwargs: Any) -> None:
        self.size = size
        self.observation_space = spaces.Box(-math.inf, math.inf, (size,))
        super().__init__(**kwargs)

    def reset(self, n: int, rng: torch.Generator) -> Noisy:
        """Starts at random places."""
        return Noisy(torch.randn((n, self.size), generator=rng, device=self.device))

    def step(self, state: Noisy, action: Tensor, rng: torch.Generator) -> tuple[Noisy, Tensor, Tensor]:
        """Adds noise; no episode ends before the time limit."""
        place = state.place * 0.9 + 0.1 * torch.randn(state.place.shape, generator=rng, device=self.device)
        reward = ((state.place[:, 0] > 0) == (action == 0)).to(self.dtype)
        return Noisy(place), reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: Noisy) -> Tensor:
        """The place."""
        return state.place


def main() -> None:
    """Measures and prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", default=list(AXES), help=", ".join(AXES))
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    parser.add_argument("--repeats", type=int, default=3, help="iterations that are timed [3]")
    parser.add_argument("--up-to", type=int, default=2**31, help="leave out rows with more [none]")
    parsed = parser.parse_args()
    if unknown := set(parsed.axes) - AXES.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(AXES)}")
    figures = store.load("scale")
    for axis in parsed.axes:
        print(f"\n| {axis} | iteration, ms | exponent | steps/s | memory, MiB |")
        print("| --- " * 5 + "|")
        before: tuple[int, float] | None = None
        for size in AXES[axis]:
            if size > parsed.up_to:
                continue
            row = alone(axis, size, parsed.threads, parsed.repeats)
            exponent = ""
            if before is not None:
                exponent = f"{math.log(row['seconds'] / before[1]) / math.log(size / before[0]):.2f}"
            before = size, row["seconds"]
            rate = row["transitions"] / row["seconds"]
            print(
                f"| {size:,} | {row['seconds'] * 1e3:,.1f} | {exponent} | {rate:,.0f} | {row['mib']:,.0f} |", flush=True
            )
            figures[f"{axis} {size}, {parsed.threads} threads"] = {**row, "machine": store.machine()}
            store.save("scale", figures)


def alone(axis: str, size: int, threads: int, repeats: int) -> dict[str, Any]:
    """A row, measured in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, axis, size, threads, repeats).result()


def measure(axis: str, size: int, threads: int, repeats: int) -> dict[str, Any]:
    """Seconds of an iteration, its transitions, and the most memory taken, in MiB."""
    from benchmarks.peers import ours

    torch.set_num_threads(threads)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    num_envs = {"environments": size, "agents": 8}.get(axis, 1024)
    agent: dict[str, Any] = {
        "n_steps": STEPS,
        "n_epochs": EPOCHS,
        "batch_size": max(num_envs * STEPS // MINIBATCHES, 1),
        "policy_kwargs": {"net_arch": [size if axis == "width" else 64] * 2},
    }
    times: list[float] = []
    if axis == "agents":
        transitions = size * num_envs * STEPS
        times = at_once(size, {"num_envs": num_envs, "num_threads": threads, "agent": agent}, repeats)
    else:
        env: Any = "rltrain/CartPole-v1"
        if axis == "observation":
            rltrain.register_env("benchmark/Wanderer-v0", Wanderer, description="Noise.")
            env = "benchmark/Wanderer-v0"
        options = {"env": {"kwargs": {"size": size}}} if axis == "observation" else {}
        loop = ours.Loop("ppo", env, {"num_envs": num_envs, "agent": agent, **options})
        for repeat in range(repeats + 2):
            begin = time.perf_counter()
            transitions = loop.iterate()
            if repeat > 1:
                times.append(time.perf_counter() - begin)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": statistics.median(times), "transitions": transitions, "mib": round(taken / 1024, 1)}


def at_once(agents: int, options: dict[str, Any], repeats: int) -> list[float]:
    """Seconds of an iteration of agents that are trained as one batch, in each of several runs with logging."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        total = options["num_envs"] * STEPS * ITERATIONS
        rest = {"run_dir": folder, "n_eval_episodes": 0, "save_freq": 0, "total_timesteps": total}
        config, _ = build_config("ppo", "rltrain/CartPole-v1", {**options, **rest})
        for _ in range(repeats + 1):
            results = start_seeds(RunRequest(config, progress=False, num_seeds=agents)).values()
            times.append(max(result.seconds for result in results if isinstance(result, RunResult)) / ITERATIONS)
    return times[1:]  # the first is to warm up


if __name__ == "__main__":
    main()
