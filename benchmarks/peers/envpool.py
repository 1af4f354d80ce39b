"""EnvPool: environments in C++, stepped by threads."""

from __future__ import annotations

import os
from collections.abc import Callable

import envpool
import numpy as np

from benchmarks.peers import ACTIONS


def stepping(how: str, num_envs: int, seed: int) -> Callable[[], int]:
    """Steps all environments with random actions, and waits for all of them."""
    threads = min(num_envs, len(os.sched_getaffinity(0)))
    env = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=num_envs, num_threads=threads, seed=seed)
    env.reset()
    actions = np.random.default_rng(seed).integers(0, 2, (ACTIONS, num_envs), dtype=np.int32)

    def work() -> int:
        for action in actions:
            env.step(action)
        return ACTIONS * num_envs

    return work
