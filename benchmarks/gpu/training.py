"""Rollout and learning: steps per second, where the time goes, the memory, and what the projection said."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from benchmarks.gpu import expected
from benchmarks.gpu.setup import Setup


def throughput(setup: Setup, algo: str, env: str, num_envs: int, mode: str) -> dict[str, Any]:
    """An agent trained without a log; the start, with all compiling and recording, apart."""
    projected = expected.rate(setup, algo, env, num_envs, mode)
    if setup.cuda:
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    loop = setup.loop(algo, env, num_envs, mode)
    for _ in range(setup.warm_ups):
        loop.iterate()
    setup.wait()
    start = time.perf_counter() - begin
    rates = setup.rates(loop.iterate)
    collect, learn = [], []
    for _ in range(1 if setup.mini else 3):
        collect.append(setup.seconds_of(loop.collect)[0])
        learn.append(setup.seconds_of(loop.learn)[0])
    memory = {"peak_mib": round(torch.cuda.max_memory_allocated() / 2**20)} if setup.cuda else {}
    loop.close()
    return {
        "steps_per_s": round(statistics.median(rates)),
        "projected_steps_per_s": projected,
        "each": rates,
        "collect_ms": round(1e3 * statistics.median(collect), 2),
        "learn_ms": round(1e3 * statistics.median(learn), 2),
        "start_s": round(start, 1),
        **memory,
        "settings": {"num_envs": num_envs, **setup.settings(algo, num_envs)},
    }
