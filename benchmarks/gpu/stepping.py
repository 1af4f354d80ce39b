"""Environments alone, stepped with random actions."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

import rltrain
from benchmarks.gpu.setup import Setup

ACTIONS = 8  # batches of actions drawn before, used in turn


def throughput(setup: Setup, env: str, num_envs: int, mode: str) -> dict[str, Any]:
    """Steps per second, resets and episode statistics included."""
    if setup.cuda:
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    vec: Any = rltrain.make_vec(env, num_envs, device=setup.device)
    setup.speed_up(mode, vec)
    vec.reset(0)
    actions = list(torch.randint(int(vec.single_action_space.n), (ACTIONS, num_envs), device=setup.device))

    def iterate() -> int:
        for action in actions:
            vec.step(action)
        return ACTIONS * num_envs

    iterate()
    setup.wait()
    start = time.perf_counter() - begin
    rates = setup.rates(iterate)
    memory = {"peak_mib": round(torch.cuda.max_memory_allocated() / 2**20)} if setup.cuda else {}
    return {"steps_per_s": round(statistics.median(rates)), "each": rates, "start_s": round(start, 1), **memory}
