"""Loads a checkpoint into an agent: its actor, and the other tensors that it learned."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.agent import ACTOR, TEACHER, Agent
from rltrain.config import AgentConfig
from rltrain.errors import CheckpointError
from rltrain.rng import global_kept
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


def read_policy(checkpoint: Path) -> dict[str, Tensor]:
    """The learned tensors of a checkpoint: the actor's, and the others if it has them.

    Raises:
        CheckpointError: The checkpoint is damaged.
    """
    beside = load_modules(checkpoint)
    return {**{ACTOR + name: tensor for name, tensor in load_policy(checkpoint).items()}, **beside}


def restore_policy(
    agent: Agent, checkpoint: Path, state: Mapping[str, Tensor] | None = None, *, same_run: bool = True
) -> None:
    """Loads the learned tensors of a checkpoint into an agent.

    Args:
        agent: The agent.
        checkpoint: The checkpoint.
        state: Its tensors, if they have been read.
        same_run: Whether the agent was made from the configuration of the run, so that it goes on as it was trained;
            otherwise a new run starts from the policy.

    Raises:
        CheckpointError: The checkpoint is damaged, or the agent's networks have other shapes.
    """
    state = read_policy(checkpoint) if state is None else state
    if same_run:
        agent.keep_statistics(state)
    known = agent.state_dict()
    state = {name: tensor for name, tensor in state.items() if name in known or not name.startswith(TEACHER)}
    try:
        agent.load_state_dict(renamed(state, known))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"The policy in '{checkpoint}' does not fit: {reason}", "Use the same networks and normalization as it has."
        ) from error


def check_size(
    make: Any, of: tuple[spaces.Space, spaces.Space], num_envs: int, config: AgentConfig, checkpoint: Path
) -> None:
    """Checks that networks are not far larger than a checkpoint for them, before they take any memory.

    Args:
        make: The agent's class.
        of: The spaces of an observation and an action.
        num_envs: Number of environments.
        config: The hyperparameters, which somebody else may have written.
        checkpoint: The checkpoint.

    Raises:
        CheckpointError: They are.
    """
    if not (isinstance(make, type) and issubclass(make, Agent)):
        return
    saved = needed = 0
    with suppress(Exception), global_kept():  # an agent whose parts cannot be made without memory is not measured
        saved = sum(path.stat().st_size for path in checkpoint.glob("*.safetensors"))
        agent = make(*of, num_envs, config, device=torch.device("meta"), seed=0)
        needed = sum(tensor.numel() * tensor.element_size() for tensor in agent.state_dict().values())
    if saved and needed > 2 * saved + 2**20:
        raise CheckpointError(
            f"The policy in '{checkpoint}' does not fit: networks of {needed:,} bytes, {saved:,} bytes are saved.",
            "Use the same networks and normalization as it has.",
        )


def renamed(state: Mapping[str, Tensor], known: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the names that agents use today; see :data:`MOVED`."""
    return {_name_now(name, known): tensor for name, tensor in state.items()}


def _name_now(name: str, known: Mapping[str, Any]) -> str:
    before = name.removeprefix(ACTOR)
    candidates = (name, before, *(new + before.removeprefix(old) for old, new in MOVED if before.startswith(old)))
    return next((candidate for candidate in candidates if candidate in known), name)
