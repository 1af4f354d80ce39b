"""Measures ``TensorVecEnv.step``: environment steps per second, and dispatched operations.

    python -m benchmarks.stepping                                # every environment, into benchmarks/results
    python -m benchmarks.stepping minatar taxi                   # those with one of the words in their id
    python -m benchmarks.stepping CartPole-v1 --num-envs 1 64 4096 65536 --threads 1 2 --compile

Actions are random and drawn beforehand. Resets, time limits, episode statistics and final observations are included,
and freed memory is kept, as in every run. Every figure is the median of the repeats. With one thread the time is the
process's own, so other programs on the machine matter less; otherwise it is wall time. ``--compile`` measures
``TensorVecEnv.compile`` beside eager torch and the seconds of compiling apart, which takes about twenty minutes for all
environments. Every row of the table is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from benchmarks import store
from rltrain.check.op_counter import OpCounter
from rltrain.make import make_vec
from rltrain.process.memory import keep_memory
from rltrain.registry import env_specs
from rltrain.spaces import random_actions
from rltrain.vec import TensorVecEnv

R = TypeVar("R")
ACTIONS = 8  # batches of actions, drawn beforehand and used in turn


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="[all]")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[4096], metavar="N", help="[4096]")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="T", help="of torch [1]")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat, at least [1]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parser.add_argument("--compile", action="store_true", help="compiled beside eager")
    parsed = parser.parse_args()

    figures = store.load("stepping")
    modes = ("eager", "compiled") if parsed.compile else ("eager",)
    print("| environment | N | threads | steps/s | compiled | operations: env.step | vector step |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for env_id, threads, n in itertools.product(chosen(parsed.words), parsed.threads, parsed.num_envs):
        result = in_own_process(measure, env_id, n, threads, modes, parsed.seconds, parsed.repeats)
        rates = [f"{result[mode]['steps_per_second']:,}" for mode in modes]
        print(
            f"| {env_id} | {n:,} | {threads} | {rates[0]} | {rates[1] if parsed.compile else ''} "
            f"| {result['env_operations']} | {result['vector_operations']} |",
            flush=True,
        )
        figures[f"{env_id} {n} {threads}"] = result
        store.save("stepping", dict(sorted(figures.items())))


def in_own_process(function: Callable[..., R], *args: Any) -> R:
    """Runs ``function`` in a new process, so nothing that it compiles, caches or sets remains."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def measure(env_id: str, n: int, threads: int, modes: Sequence[str], seconds: float, repeats: int) -> dict[str, Any]:
    """A row of the table."""
    torch.set_num_threads(threads)
    keep_memory()
    rates = {mode: steps_per_second(env_id, n, mode == "compiled", seconds, repeats) for mode in modes}
    return {"num_envs": n, "threads": threads, **operations(env_id), **rates, "machine": store.machine()}


def chosen(words: list[str]) -> list[str]:
    """The ids with one of the words in them; all if there are no words."""
    return [env_id for env_id in env_specs() if not words or any(word.lower() in env_id.lower() for word in words)]


def operations(env_id: str) -> dict[str, int]:
    """Operations dispatched by a step of the environment alone, and of the vector around it."""
    vec, actions = make_ready(env_id, 64)
    with OpCounter() as inner, torch.no_grad():
        vec.env.step(vec.state, actions[0], None)
    with OpCounter() as whole:
        vec.step(actions[0])
    return {"env_operations": inner.total, "vector_operations": whole.total}


def steps_per_second(env_id: str, n: int, compiled: bool, seconds: float, repeats: int) -> dict[str, float]:
    """Median over the repeats, and how long compiling took."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    vec, actions = make_ready(env_id, n, own_generator=not compiled)
    if compiled:
        vec.compile()
    begin = time.perf_counter()
    for action in actions * 2:
        vec.step(action)
    warm_up = time.perf_counter() - begin
    rates = []
    for _ in range(repeats):
        count, begin = 0, clock()
        while (passed := clock() - begin) < seconds:
            for action in actions:
                vec.step(action)
            count += ACTIONS
        rates.append(n * count / passed)
    return {
        "steps_per_second": round(statistics.median(rates)),
        **({"compile_seconds": round(warm_up, 1)} if compiled else {}),
    }


def make_ready(env_id: str, n: int, *, own_generator: bool = True) -> tuple[TensorVecEnv, list[torch.Tensor]]:
    """Environments that have been reset, and actions for them."""
    vec = make_vec(env_id, n)
    vec.reset(0 if own_generator else None)
    rng = torch.Generator().manual_seed(0)
    return vec, [random_actions(vec.single_action_space, n, vec.device, rng) for _ in range(ACTIONS)]


if __name__ == "__main__":
    main()
