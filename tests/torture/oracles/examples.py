"""Random examples, on which a formula is compared with the loops that stand for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Example:
    """What a case is made from."""

    rows: int
    columns: int
    gamma: float
    lambda_: float
    ends: float  # the chance of a termination, and of a truncation, in a step
    size: float  # of the numbers
    seed: int

    def rng(self) -> np.random.Generator:
        """Everything else that is random."""
        return np.random.default_rng(self.seed)


SHARES = st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]) | st.floats(0.0, 1.0)
EXAMPLES = st.builds(
    Example,
    rows=st.integers(1, 24),
    columns=st.integers(1, 6),
    gamma=SHARES,
    lambda_=SHARES,
    ends=st.sampled_from([0.0, 0.1, 0.4, 1.0]),
    size=st.sampled_from([1e-3, 1.0, 30.0, 1e3]),
    seed=st.integers(0, 2**32 - 1),
)


def hold(check: Callable[[Example, torch.dtype], float], examples: int, first: int) -> dict[str, float]:
    """Tries a check on many examples in both types; the largest errors.

    Raises:
        AssertionError: One is above its bound; with the smallest example for which that is so.
    """
    worst = {"float64": 0.0, "float32": 0.0}

    @seed(first)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(EXAMPLES)
    def run(example: Example) -> None:
        for dtype, bound in BOUNDS.items():
            torch.set_default_dtype(dtype)  # of what is allocated without a type, such as a replay
            error, name = check(example, dtype), str(dtype).removeprefix("torch.")
            assert error <= bound, f"{check.__name__} in {name} is off by {error:.1e} > {bound:g} for {example}"
            worst[name] = max(worst[name], error)

    try:
        run()
    finally:
        torch.set_default_dtype(torch.float32)
    return {**worst, "examples": float(examples)}


def apart(ours: Tensor | Sequence[Any], theirs: Any) -> float:
    """The largest difference, over the largest number or 1; infinite where one is not finite."""
    a, b = (np.asarray(x.detach().tolist() if isinstance(x, Tensor) else x, dtype=np.float64) for x in (ours, theirs))
    assert a.shape == b.shape, (a.shape, b.shape)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    return float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0)))


def ends_of(example: Example, rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Terminations and truncations."""
    terminated = rng.random(shape) < example.ends
    truncated = (rng.random(shape) < example.ends) & ~terminated
    return torch.from_numpy(terminated), torch.from_numpy(truncated)
