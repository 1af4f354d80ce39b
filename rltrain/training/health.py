"""Checks on a run: its numbers are finite, and its ranks have the same policy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from rltrain.agents.parts.optim import MOMENTS
from rltrain.devices import statistics_dtype
from rltrain.distributed.ranks import Ranks
from rltrain.errors import RunError

LIMIT = 1e30
"""The magnitude from which a number counts as not finite: float32 ends at 3e38, and squares overflow far earlier."""


def diverged(
    what: str,
    step: int,
    value: float = math.nan,
    *,
    where: str = "",
    fix: str = "Lower --agent.learning-rate, or look for NaN in the environment's observations and rewards.",
    saved: int | None = None,
) -> RunError:
    """The error for numbers that are not finite any more.

    Args:
        what: What is not finite.
        step: Environment steps so far.
        value: The number.
        where: Where it was found, beginning with " in".
        fix: What to do.
        saved: The step of the last checkpoint, if there is one.
    """
    how = "not finite" if not math.isfinite(value) else "beyond what float32 can square"
    found = f": {value:g}{where}" if where or math.isfinite(value) else ""
    if saved is not None:
        fix = f"{fix} The checkpoint at step {saved:,} is sound: 'rltrain resume' goes on from it."
    return RunError(f"{what} is {how} after {step:,} steps{found}.", fix)


def first_broken(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is not finite; waits for the device."""
    return next((name for name, tensor in tensors.items() if _is_broken(tensor)), None)


def check_modules(
    modules: Mapping[str, Tensor], ranks: Ranks, step: int, state: Mapping[str, Any] | None = None
) -> None:
    """Checks what an agent has learned before it is saved and an older checkpoint is removed.

    Args:
        modules: The ``state_dict`` of the agent.
        ranks: The ranks that train it.
        step: Environment steps so far, for the error.
        state: The rest of its training state; a ``replay`` in it is not looked at, since all that enters it was.

    Raises:
        RunError: A tensor is not finite, or the ranks have different modules.
    """
    if (name := first_broken(modules)) is not None:
        raise diverged(f"'{name}' of the policy", step)
    if (name := first_broken(dict(_tensors(state or {}, ())))) is not None:
        owner, _, last = name.rpartition(".")
        raise diverged(f"'{last}' of the {owner}" if last in MOMENTS else f"'{name}' of the training state", step)
    if ranks.world_size > 1:
        sums = ranks.gather([float(tensor.sum(dtype=statistics_dtype(tensor.device))) for tensor in modules.values()])
        if any(other != sums[0] for other in sums):
            raise RunError(
                f"Ranks have come to different policies after {step:,} steps.",
                "The agent must hand its gradients to self.reduce, and take the same steps on every rank.",
            )


def _is_broken(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool((tensor.abs() < LIMIT).all())


def _tensors(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Tensor]]:
    for key, value in tree.items():
        if isinstance(value, Tensor):
            yield ".".join((*path, str(key))), value
        elif isinstance(value, Mapping) and key != "replay":
            yield from _tensors(value, (*path, str(key)))
