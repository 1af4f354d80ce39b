"""rejax: algorithms that are whole JAX programs, on gymnax's CartPole; without the evaluations between iterations.

Its gradient is clipped number by number and not by its norm, which is hardly less work. PPO's policy and value share
no layers, as elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import rejax

TRANSITIONS = 2**16  # in one call of the program, about
ALGORITHMS = {"ppo": rejax.PPO, "pqn": rejax.PQN, "dqn": rejax.DQN}


def training(how: str, point: dict[str, Any], seed: int) -> Callable[[], int] | None:
    """PPO and PQN, and DQN where it learns after every step; the first call compiles."""
    found = settings(point)
    if found is None:
        return None
    algorithm = ALGORITHMS[point["algo"]].create(env="CartPole-v1", num_envs=point["num_envs"], **found)
    each = point["num_envs"] * found.get("num_steps", 1)
    iterations = max(TRANSITIONS // each, 1)
    state = jax.jit(algorithm.init_state)(jax.random.PRNGKey(seed))
    program = jax.jit(
        lambda state: jax.lax.fori_loop(0, iterations, lambda _, s: algorithm.train_iteration(s), state),
        donate_argnums=0,
    )

    def work() -> int:
        nonlocal state
        state = jax.block_until_ready(program(state))
        return iterations * each

    return work


def settings(point: dict[str, Any]) -> dict[str, Any] | None:
    """A point under rejax's names; None if it has no such settings."""
    agent = point["agent"]
    found = {
        "learning_rate": agent["learning_rate"],
        "gamma": agent.get("gamma", 0.99),
        "max_grad_norm": agent.get("max_grad_norm", 10.0),
        "agent_kwargs": {"hidden_layer_sizes": tuple(point["net_arch"])},
    }
    if point["algo"] == "dqn":
        if agent["train_freq"] > 1:
            return None
        found["agent_kwargs"] = {"activation": "relu"}  # two layers of 64, which it does not let one choose
        return found | {
            "buffer_size": agent["buffer_size"],
            "fill_buffer": agent["learning_starts"],
            "batch_size": agent["batch_size"],
            "num_epochs": agent["gradient_steps"],
            "target_update_freq": agent["target_update_interval"],
            "polyak": 0.0,
            "ddqn": False,
        }
    found |= {
        "num_steps": agent["n_steps"],
        "num_epochs": agent["n_epochs"],
        "num_minibatches": point["num_envs"] * agent["n_steps"] // agent["batch_size"],
    }
    if point["algo"] == "pqn":
        del found["agent_kwargs"]  # as for DQN
        return found | {"td_lambda": agent["q_lambda"]}
    found["agent_kwargs"] |= {"activation": "tanh"}
    return found | {
        "gae_lambda": agent["gae_lambda"],
        "clip_eps": agent["clip_range"],
        "ent_coef": agent["ent_coef"],
        "vf_coef": agent["vf_coef"],
    }
