"""Whether a run draws its random numbers from generators of its own alone, or from those of the process too."""

from __future__ import annotations

from typing import Any

from torch import nn

from rltrain.agent import Agent
from rltrain.rng import turns
from rltrain.training.setup import Setup
from rltrain.vec import TensorVecEnv

OURS = ("rltrain.", "torch.nn.")
DRAWING = ("Dropout", "RReLU", "FractionalMaxPool")
"""Parts of the names of torch's layers that draw from the process-wide generator."""


def leave_if_possible(*setups: Setup) -> None:
    """Ends the turns of this thread if all that its runs are made of draws from generators of its own."""
    if all(draws_by_itself(setup) for setup in setups):
        turns.leave()


def draws_by_itself(setup: Setup) -> bool:
    """Whether nothing in a run can draw from the process-wide generators.

    That is known of rltrain's own environments, agents and networks. Any other code may, such as environments of
    Gymnasium's kind, Stable-Baselines3, networks and callbacks of the user's own.
    """
    agent: Any = setup.agent
    if setup.callbacks or not isinstance(agent, Agent) or not _is_ours(agent):
        return False
    if any(not _is_ours(module) or _draws(module) for module in agent.modules()):
        return False
    env: Any = setup.env
    while hasattr(env, "vec"):
        env = env.vec
    return isinstance(env, TensorVecEnv) and _is_ours(env.env)


def _is_ours(thing: object) -> bool:
    return type(thing).__module__.startswith(OURS)


def _draws(module: nn.Module) -> bool:
    """Whether a layer of torch's draws: dropout, alone or inside a recurrent layer."""
    named = any(part in type(module).__name__ for part in DRAWING)
    return named or bool(getattr(module, "dropout", 0.0))
