"""Compares our environments with their originals, in steps per second of random actions.

    python -m benchmarks.originals                  # every environment whose original is installed
    python -m benchmarks.originals minatar taxi     # those with one of the words in their id

The originals run in Gymnasium's vector environments: in one process (sync), with a worker for each core (async), and in
Gymnasium's own NumPy vector environment, if there is one. The fastest counts. Ours run with 4,096 environments, eager
and by ``TensorVecEnv.compile``, on one thread and on two. The sides take turns, and every figure is the median of
three. Every environment is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

import gymnasium
import torch

from benchmarks import store
from benchmarks.stepping import ACTIONS, chosen, in_own_process, make_ready
from rltrain.process.memory import keep_memory

NUM_ENVS = 4096  # of ours
OURS = {  # whether compiled, and threads
    "eager": (False, 1),
    "eager, 2 threads": (False, 2),
    "compiled": (True, 1),
    "compiled, 2 threads": (True, 2),
}
REPEATS = 3
SECONDS = 1.0


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="[all]")
    parsed = parser.parse_args()
    register_originals()
    figures = store.load("originals")
    print(f"| environment | original, steps/s | how | {' | '.join(f'ours, {name} | ratio' for name in OURS)} |")
    print("| --- " * (3 + 2 * len(OURS)) + "|")
    for env_id in chosen(parsed.words):
        original = original_of(env_id)
        if original is None:
            continue
        figures[env_id] = row = in_own_process(compare, env_id, original)
        ours = " | ".join(f"{row['all'][name]:,} | {row['all'][name] / row['original']:.3g}" for name in OURS)
        print(f"| {env_id} | {row['original']:,} | {row['how']} | {ours} |", flush=True)
        store.save("originals", dict(sorted(figures.items())))


def register_originals() -> None:
    """Registers the packages that Gymnasium does not find by itself."""
    import minatar.gym
    import minigrid  # noqa: F401 (registers)

    if "MinAtar/Breakout-v1" not in gymnasium.registry:
        minatar.gym.register_envs()


def original_of(env_id: str) -> str | None:
    """The id of an environment's original, if it is installed."""
    name = env_id.removeprefix("rltrain/")
    return next((id for id in (name, name.replace("MinAtar-", "MinAtar/")) if id in gymnasium.registry), None)


def compare(env_id: str, original: str) -> dict[str, Any]:
    """Ours and every way to run the original, one after the other, three times."""
    keep_memory()
    register_originals()
    cores = os.cpu_count() or 1
    modes: dict[str, Any] = {"sync x 8": ("sync", 8), f"async x {cores}": ("async", cores)}
    if gymnasium.spec(original).vector_entry_point is not None:
        modes[f"NumPy x {NUM_ENVS}"] = ("vector_entry_point", NUM_ENVS)
    rates: dict[str, list[float]] = {name: [] for name in (*OURS, *modes)}
    vecs: dict[str, Any] = {}
    for name, (compiled, threads) in OURS.items():
        torch.set_num_threads(threads)
        vecs[name], actions = make_ready(env_id, NUM_ENVS, own_generator=not compiled)
        if compiled:
            vecs[name].compile()
            for action in actions:
                vecs[name].step(action)
    for _ in range(REPEATS):
        for name, vec in vecs.items():
            torch.set_num_threads(OURS[name][1])
            rates[name].append(rate(lambda i, vec=vec: vec.step(actions[i % ACTIONS]), NUM_ENVS))
        torch.set_num_threads(1)
        for name, (mode, n) in modes.items():
            # MiniGrid's observations contain text, which Gymnasium's shared memory cannot hold
            options = {"shared_memory": "MiniGrid" not in original} if mode == "async" else {}
            env = gymnasium.make_vec(original, num_envs=n, vectorization_mode=mode, vector_kwargs=options)
            env.reset(seed=0)
            samples = [env.action_space.sample() for _ in range(ACTIONS)]
            rates[name].append(rate(lambda i, env=env, samples=samples: env.step(samples[i % ACTIONS]), n))
            env.close()
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    how = max(modes, key=lambda name: medians[name])
    machine = store.machine()
    return {"ours": medians["eager"], "original": medians[how], "how": how, "all": medians, "machine": machine}


def rate(step: Any, n: int) -> float:
    """Environment steps per second."""
    for i in range(3):
        step(i)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < SECONDS:
        step(count)
        count += 1
    return n * count / passed


if __name__ == "__main__":
    main()
