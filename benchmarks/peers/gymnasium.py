"""Gymnasium's own vector environments: in a loop, in worker processes, and the one that is batched NumPy."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np

from benchmarks.peers import ACTIONS

MODES = {"NumPy": "vector_entry_point", "sync": "sync", "async": "async"}
MOST = {"NumPy": 65_536, "sync": 4_096, "async": 8}  # environments; a process each in async


def stepping(how: str, num_envs: int, seed: int) -> Callable[[], int] | None:
    """Steps with random actions."""
    if num_envs > MOST[how]:
        return None
    env = gymnasium.make_vec("CartPole-v1", num_envs=num_envs, vectorization_mode=MODES[how])
    env.reset(seed=seed)
    actions = np.random.default_rng(seed).integers(0, 2, (ACTIONS, num_envs))

    def work() -> int:
        for action in actions:
            env.step(action)
        return ACTIONS * num_envs

    return work
