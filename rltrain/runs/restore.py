"""Loads a checkpoint into an agent: its actor, and the other tensors that it learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.agent import ACTOR, Agent
from rltrain.errors import CheckpointError
from rltrain.runs.checkpoint import load_modules, load_policy

MOVED = (
    ("policy.", ACTOR),
    ("policy.", f"{ACTOR}network."),
    ("distribution.", f"{ACTOR}distribution."),
    ("obs_normalizer.", f"{ACTOR}obs_normalizer."),
    ("", ACTOR),
)
"""Beginnings of tensors' names that were others, and what they are now. Where there are several, the first that the
agent has. Checkpoints of format 1 had all tensors of an agent in one file, under the names of its own networks."""


def restore_policy(agent: Agent, checkpoint: Path) -> None:
    """Loads the policy of a checkpoint into an agent, and the other learned tensors if the checkpoint has them.

    Raises:
        CheckpointError: The agent's networks have other shapes.
    """
    beside = load_modules(checkpoint)
    state = {**{ACTOR + name: tensor for name, tensor in load_policy(checkpoint).items()}, **beside}
    known = agent.state_dict()
    try:
        agent.load_state_dict(renamed(state, known))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"The policy in '{checkpoint}' does not fit: {reason}", "Use the same networks and normalization as it has."
        ) from error


def renamed(state: Mapping[str, Tensor], known: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names that agents use today; see :data:`MOVED`."""
    return {_name_now(name, known): tensor for name, tensor in state.items()}


def _name_now(name: str, known: Mapping[str, Any]) -> str:
    before = name.removeprefix(ACTOR)
    candidates = (name, before, *(new + before.removeprefix(old) for old, new in MOVED if before.startswith(old)))
    return next((candidate for candidate in candidates if candidate in known), name)
