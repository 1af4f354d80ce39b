"""Compares the same environment in several libraries, in steps per second of random actions.

    python -m benchmarks.libraries                             # CartPole, 8 and 1,024 environments
    python -m benchmarks.libraries envpool/Pong-v5 ALE/Pong-v5 --num-envs 8

Each is stepped through our vector environment, tensors in and out, with resets and episode statistics. The libraries
take turns, and the median of the repeats counts, in wall time. Making the environment, above all JAX's compilation, is
not part of the rate and stands beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack, closing

import torch

from benchmarks import store
from rltrain.make import make_vec
from rltrain.process.memory import keep_memory
from rltrain.spaces import random_actions
from rltrain.vec import VecEnv

CARTPOLES = ["CartPole-v1", "rltrain/CartPole-v1", "envpool/CartPole-v1", "gymnax/CartPole-v1"]
ACTIONS = 8  # batches of actions, drawn beforehand and used in turn


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="*", metavar="ENV", default=CARTPOLES, help="[CartPole by four libraries]")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[8, 1024], metavar="N", help="[8 1024]")
    parser.add_argument("--threads", type=int, default=1, help="of torch; libraries have their own [1]")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat, at least [1]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    keep_memory()
    figures = store.load("libraries")
    print("| environment | N | steps/s | seconds to be ready |")
    print("| --- | --- | --- | --- |")
    for (env_id, n), result in measure(parsed.envs, parsed.num_envs, parsed.seconds, parsed.repeats).items():
        print(f"| {env_id} | {n:,} | {result['steps_per_second']:,} | {result['ready_seconds']} |")
        figures[f"{env_id} {n}"] = {**result, "threads": parsed.threads, "machine": store.machine()}
    store.save("libraries", dict(sorted(figures.items())))


def measure(
    env_ids: list[str], numbers: list[int], seconds: float, repeats: int
) -> dict[tuple[str, int], dict[str, float]]:
    """Rates by id and number. All are made before any is measured, because workers must not be forked once JAX runs."""
    ready: dict[tuple[str, int], float] = {}
    rates: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        vecs = {}
        for env_id in env_ids:
            for n in numbers:
                begin = time.perf_counter()
                vec = vecs[env_id, n] = stack.enter_context(closing(make_vec(env_id, n)))
                vec.reset(0)
                ready[env_id, n] = round(time.perf_counter() - begin, 1)
        for _ in range(repeats):
            for key, vec in vecs.items():
                rates.setdefault(key, []).append(rate(vec, seconds))
    return {
        key: {"steps_per_second": round(statistics.median(found)), "ready_seconds": ready[key]}
        for key, found in rates.items()
    }


def rate(vec: VecEnv, seconds: float) -> float:
    """Steps per second over some seconds."""
    rng = torch.Generator().manual_seed(0)
    actions = [random_actions(vec.single_action_space, vec.num_envs, vec.device, rng) for _ in range(ACTIONS)]
    for action in actions:
        vec.step(action)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        for action in actions:
            vec.step(action)
        count += ACTIONS
    return vec.num_envs * count / passed


if __name__ == "__main__":
    main()
