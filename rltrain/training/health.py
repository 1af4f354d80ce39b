"""Checks on a run: its numbers are finite, and its ranks have the same policy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rltrain.devices import statistics_dtype
from rltrain.distributed.ranks import Ranks
from rltrain.errors import RunError


def diverged(what: str, step: int) -> RunError:
    """The error for numbers that are not finite any more."""
    return RunError(
        f"{what} not finite after {step:,} steps.",
        "Lower --agent.learning-rate, or look for NaN in the environment's observations and rewards.",
    )


def check_modules(modules: Mapping[str, Tensor], ranks: Ranks, step: int) -> None:
    """Checks the networks of an agent before they are saved and an older checkpoint is removed.

    Args:
        modules: The ``state_dict`` of the agent.
        ranks: The ranks that train it.
        step: Environment steps so far, for the error.

    Raises:
        RunError: A tensor is not finite, or the ranks have different ones.
    """
    broken = [name for name, tensor in modules.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise diverged(f"'{broken[0]}' of the policy is", step)
    if ranks.world_size > 1:
        sums = ranks.gather([float(tensor.sum(dtype=statistics_dtype(tensor.device))) for tensor in modules.values()])
        if any(other != sums[0] for other in sums):
            raise RunError(
                f"Ranks have come to different policies after {step:,} steps.",
                "The agent must hand its gradients to self.reduce, and take the same steps on every rank.",
            )
