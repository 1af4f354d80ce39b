"""Starts an agent from a policy that other spaces or networks were trained with: what fits is taken."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn

from rltrain.agent import ACTOR, TEACHER
from rltrain.errors import CheckpointError, ConfigError

ROLES = "policy", "value", "normalizer"
"""Words for the tensors that acting needs, for the others that are learned, and for statistics of observations."""
SHOWN = 6  # layers that a message lists


def fit(agent: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Loads those layers of a policy that an agent has in the same shapes; warns of the others, which stay fresh.

    A layer, or the statistics of an observation, is taken whole or not at all.

    Args:
        agent: The agent.
        state: The learned tensors of the policy, by the names that the agent has for them.
        origin: Where they come from, for messages.

    Raises:
        CheckpointError: No layer fits.
    """
    whole = agent.state_dict()
    mine = {name: tensor for name, tensor in whole.items() if not name.startswith(TEACHER)}
    layers: dict[str, list[str]] = defaultdict(list)
    for name in mine:
        layers[name.rpartition(".")[0]].append(name)
    fresh = {layer: reason for layer, names in layers.items() if (reason := _misfit(names, mine, state))}
    taken = [name for layer, names in layers.items() if layer not in fresh for name in names]
    if not any(mine[name].dim() > 1 for name in taken):
        reason = next(iter(fresh.values()), "it has none")
        raise CheckpointError(
            f"The policy in '{origin}' does not fit, no layer of it: {reason}.", "Use the same networks as it has."
        )
    agent.load_state_dict({**whole, **{name: state[name] for name in taken}})
    unused = sorted({name.rpartition(".")[0] for name in state.keys() - mine.keys()})
    if fresh or unused:
        parts = [f"{len(layers) - len(fresh)} of {len(layers)} layers are taken from '{origin}'"]
        if fresh:
            parts.append(f"fresh are {_listed([f'{_short(layer)} ({reason})' for layer, reason in fresh.items()])}")
        if unused:
            parts.append(f"of no use here are its {_listed([_short(layer) for layer in unused])}")
        warnings.warn("; ".join(parts) + ".", stacklevel=2)


def _misfit(names: Iterable[str], mine: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Why a layer cannot be taken; nothing if it can."""
    for name in names:
        last = name.rpartition(".")[2]
        if name not in state:
            return f"{last} is not there"
        if (here := tuple(mine[name].shape)) != (there := tuple(state[name].shape)):
            return f"{last} {_size(here)} here, {_size(there)} there"
    return ""


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "1"


def _short(layer: str) -> str:
    return layer.removeprefix(ACTOR) or "its own tensors"


def _listed(parts: list[str]) -> str:
    more = len(parts) - SHOWN
    return ", ".join(parts[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def matches(pattern: str, name: str) -> bool:
    """Whether a tensor's name is meant: by a role, a pattern with ``*``, or parts such as ``encoder`` or ``pi.0``.

    Args:
        pattern: One of :data:`ROLES`, a shell pattern for the whole name, or successive parts of it.
        name: A tensor's name in its agent, such as ``actor.pi.0.weight``.
    """
    statistics = "normalizer" in name
    if pattern == "normalizer":
        return statistics
    if pattern in ROLES:
        return not statistics and name.startswith(ACTOR) == (pattern == "policy")
    return fnmatchcase(name, pattern) or f".{pattern}." in f".{name}."


def matching(option: str, pattern: str, names: Iterable[str]) -> list[str]:
    """The names that are meant, see :func:`matches`.

    Raises:
        ConfigError: There are none.
    """
    names = list(names)
    found = [name for name in names if matches(pattern, name)]
    if not found:
        parts = sorted({name.removeprefix(ACTOR).rpartition(".")[0] for name in names} - {""})
        raise ConfigError(
            f"--{option} {pattern}: the agent has nothing of this name.",
            f"It has {', '.join(parts[:20])}; {', '.join(ROLES)} are words for all of a kind.",
        )
    return found
