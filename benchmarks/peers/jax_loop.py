"""PPO on CartPole as one JAX program, as in PureJaxRL: the loop of ``benchmarks.gpu``, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from benchmarks.gpu import jax_loop

ITERATIONS = 8  # in one call of the program


def training(how: str, point: dict[str, Any], seed: int) -> Callable[[], int] | None:
    """PPO; the first call compiles."""
    if point["algo"] != "ppo":
        return None
    num_envs, agent = point["num_envs"], point["agent"]
    transitions = num_envs * agent["n_steps"]
    iterate = jax_loop.make_iterate(num_envs, agent["n_steps"], agent["n_epochs"], transitions // agent["batch_size"])
    carry = jax_loop.begin(jax.random.key(seed), num_envs, point["net_arch"])
    program = jax.jit(lambda carry: jax.lax.scan(iterate, carry, None, ITERATIONS)[0], donate_argnums=0)

    def work() -> int:
        nonlocal carry
        carry = jax.block_until_ready(program(carry))
        return ITERATIONS * transitions

    return work
