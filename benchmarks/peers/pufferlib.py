"""PufferLib: its own CartPole in C, all environments in one process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pufferlib.ocean.cartpole.cartpole import Cartpole

from benchmarks.peers import ACTIONS


def stepping(how: str, num_envs: int, seed: int) -> Callable[[], int]:
    """Steps with random actions."""
    env = Cartpole(num_envs=num_envs, render_mode=None, report_interval=ACTIONS)
    env.reset(seed)
    actions = np.random.default_rng(seed).integers(0, 2, (ACTIONS, num_envs))

    def work() -> int:
        for action in actions:
            env.step(action)
        return ACTIONS * num_envs

    return work
