"""gymnax: compiled environments in JAX, by a call for each step or by a scan over steps, as in PureJaxRL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnax
import jax

from benchmarks.peers import ACTIONS

SCANNED = 128  # steps in one call


def stepping(how: str, num_envs: int, seed: int) -> Callable[[], int]:
    """Steps with random actions, compiled by the first call."""
    env, params = gymnax.make("CartPole-v1")
    keys = jax.random.split(jax.random.key(seed), num_envs)
    _, state = jax.jit(jax.vmap(env.reset, (0, None)))(keys, params)
    steps = SCANNED if how == "scan" else ACTIONS
    actions = jax.random.randint(jax.random.key(seed), (steps, num_envs), 0, 2)

    def step(carry: tuple[Any, Any], action: Any) -> tuple[tuple[Any, Any], Any]:
        key, state = carry
        key, draw = jax.random.split(key)
        obs, state, reward, *done, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(draw, num_envs), state, action, params
        )
        return (key, state), (obs, reward, done)

    one = jax.jit(step)
    all_of_them = jax.jit(lambda carry, actions: jax.lax.scan(step, carry, actions))
    carry = (jax.random.key(seed), state)

    def work() -> int:
        nonlocal carry
        if how == "scan":
            carry, out = all_of_them(carry, actions)
        else:
            for action in batches:
                carry, out = one(carry, action)
        jax.block_until_ready(out)
        return steps * num_envs

    batches = list(actions)
    return work
