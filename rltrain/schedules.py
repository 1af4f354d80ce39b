"""Hyperparameters that change over training, written as in RL Zoo: ``0.001`` or ``lin_0.001``."""

from __future__ import annotations

import math
from numbers import Real
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

LINEAR = "lin_"


def value_at(schedule: float | str, progress_remaining: float) -> float:
    """The value of a schedule.

    Args:
        schedule: A number (constant), or ``"lin_X"``: falls linearly from X to 0.
        progress_remaining: Share of training still ahead, from 1 at the start to 0 at the end.
    """
    if isinstance(schedule, str):
        return float(schedule.removeprefix(LINEAR)) * progress_remaining
    return schedule


def ramp(start: float, end: float, share: float, progress_remaining: float) -> float:
    """From ``start`` linearly to ``end`` over the first ``share`` of training, then ``end``."""
    done = 1.0 - progress_remaining
    return end if done >= share else start + (end - start) * done / share


def _read(value: object) -> object:
    """Turns a number written as text into a number and tidies ``lin_`` forms."""
    if type(value).__name__ in ("bool", "bool_") or not isinstance(value, Real | str):  # NumPy's numbers are Real too
        raise ValueError("should be a number or a schedule such as lin_0.001")
    text = value.strip() if isinstance(value, str) else str(float(value))
    number = text.removeprefix(LINEAR)
    try:
        amount = float(number)
    except ValueError:
        raise ValueError("should be a number or a schedule such as lin_0.001") from None
    return f"{LINEAR}{number}" if text.startswith(LINEAR) else amount


def _positive(value: float | str) -> float | str:
    if not 0.0 < value_at(value, 1.0) < math.inf:
        raise ValueError("should be greater than 0")
    return value


Schedule = Annotated[float | str, BeforeValidator(_read), AfterValidator(_positive)]
"""A positive number or ``lin_X``, as a pydantic field type."""
