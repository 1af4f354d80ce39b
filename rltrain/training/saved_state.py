"""Checks a training state from a checkpoint, which somebody else may have written, before any of it is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

MOST = 2**63
"""Where whole numbers end."""


def is_number(value: Any) -> bool:
    """Whether it is a number, infinity included, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)


def is_count(value: Any) -> bool:
    """Whether it is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


PROGRESS = {
    "global_step": is_count,
    "n_iterations": is_count,
    "seconds": lambda value: is_number(value) and 0 <= value < math.inf,
    "best_mean_reward": is_number,
    "best_step": lambda value: value is None or is_count(value),
    "latest": lambda value: isinstance(value, Mapping) and all(isinstance(x, Real) for x in value.values()),
    "evaluation_missed": lambda value: isinstance(value, bool),
}
"""The counters of a run and its latest metrics, and what tells that one is what it should be."""


def check_progress(saved: Any, step: int) -> None:
    """Checks the counters of a run, as far as they are there.

    Args:
        saved: The counters by name.
        step: The step of the checkpoint.

    Raises:
        ValueError: One is of another kind, or they belong to another step.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(f"'trainer' is {_kind(saved)}")
    wrong = next((name for name, fits in PROGRESS.items() if name in saved and not fits(saved[name])), None)
    if wrong is not None:
        raise ValueError(f"'trainer.{wrong}' is {_shown(saved[wrong])}")
    if saved.get("global_step", step) != step:
        raise ValueError(f"'trainer.global_step' is {saved['global_step']}, and the checkpoint is of step {step}")


def check_kinds(saved: Any, own: Any, name: str = "") -> None:
    """Checks that a saved state has mappings, tensors, numbers and text where the run's own state has them.

    What is in one of the two alone is not looked at: whoever loads it knows whether it is needed.

    Raises:
        ValueError: Something is of another kind; it is named.
    """
    if isinstance(own, Mapping):
        if not isinstance(saved, Mapping):
            raise ValueError(f"'{name}' is {_kind(saved)}")
        for key in own.keys() & saved.keys():
            check_kinds(saved[key], own[key], f"{name}.{key}" if name else str(key))
    elif not _alike(saved, own):
        raise ValueError(f"'{name}' is {_shown(saved)}")


def _alike(saved: Any, own: Any) -> bool:
    if isinstance(own, Tensor):
        return isinstance(saved, Tensor)
    if isinstance(own, bool):
        return isinstance(saved, bool)
    if isinstance(own, int):
        return isinstance(saved, int) and not isinstance(saved, bool) and abs(saved) < MOST
    if own is None:  # not there yet: it may be anything
        return True
    if isinstance(own, float):
        return isinstance(saved, Real) and not isinstance(saved, bool)
    return isinstance(saved, list if isinstance(own, list | tuple) else type(own))


def _kind(value: Any) -> str:
    return f"no mapping but {_shown(value)}"


def _shown(value: Any) -> str:
    """A value in few characters."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping | list):
        return f"a {type(value).__name__}"
    return repr(value)[:60]
