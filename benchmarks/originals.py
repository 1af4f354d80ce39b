"""Our environments beside those they are modelled on, in the same run: steps per second under random actions.

    python -m benchmarks.originals                  # every environment whose original is installed
    python -m benchmarks.originals minatar taxi     # those with one of the words in their id

The originals run in Gymnasium's vector environments, in one process (sync) and in a worker for each core (async),
and, where Gymnasium has one, in its own NumPy vector environment; the fastest counts. Ours run on one thread,
eager, on 4,096 environments. Ours and theirs take turns; every figure is the median of three.
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
from benchmarks.stepping import ACTIONS, chosen, make_ready
from rltrain.job import keep_memory

OURS = 4096
REPEATS = 3
SECONDS = 1.0


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="[all]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    register_originals()
    figures = store.load("originals")
    print("| environment | ours, steps/s | original, steps/s | how | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for env_id in chosen(parsed.words):
        original = original_of(env_id)
        if original is None:
            continue
        figures[env_id] = {**compare(env_id, original), "machine": store.machine()}
        ours, theirs, how = (figures[env_id][key] for key in ("ours", "original", "how"))
        print(f"| {env_id} | {ours:,} | {theirs:,} | {how} | {ours / theirs:.3g} |", flush=True)
        store.save("originals", dict(sorted(figures.items())))


def register_originals() -> None:
    """Makes the packages known that Gymnasium does not know by itself."""
    import minatar.gym
    import minigrid  # noqa: F401 (registers)

    if "MinAtar/Breakout-v1" not in gymnasium.registry:
        minatar.gym.register_envs()


def original_of(env_id: str) -> str | None:
    """The id of what an environment is modelled on, if it is installed."""
    name = env_id.removeprefix("rltrain/")
    return next((id for id in (name, name.replace("MinAtar-", "MinAtar/")) if id in gymnasium.registry), None)


def compare(env_id: str, original: str) -> dict[str, Any]:
    """Ours and every way to run the original, one after the other, three times."""
    cores = os.cpu_count() or 1
    modes: dict[str, Any] = {"sync x 8": ("sync", 8), f"async x {cores}": ("async", cores)}
    if gymnasium.spec(original).vector_entry_point is not None:
        modes["NumPy x 4096"] = ("vector_entry_point", OURS)
    rates: dict[str, list[float]] = {name: [] for name in ("ours", *modes)}
    vec, actions = make_ready(env_id, OURS)
    for _ in range(REPEATS):
        rates["ours"].append(rate(lambda i: vec.step(actions[i % ACTIONS]), OURS))
        for name, (mode, n) in modes.items():
            # MiniGrid observes sentences, which Gymnasium's shared memory cannot hold
            options = {"shared_memory": "MiniGrid" not in original} if mode == "async" else {}
            env = gymnasium.make_vec(original, num_envs=n, vectorization_mode=mode, vector_kwargs=options)
            env.reset(seed=0)
            samples = [env.action_space.sample() for _ in range(ACTIONS)]
            rates[name].append(rate(lambda i, env=env, samples=samples: env.step(samples[i % ACTIONS]), n))
            env.close()
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    how = max(modes, key=lambda name: medians[name])
    return {"ours": medians["ours"], "original": medians[how], "how": how, "all": medians}


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
