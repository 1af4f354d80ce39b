"""Row 9: formulas of the agents against float64 loops, for 10,000 random cases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture.frame import Case, Outcome, Row

SHORT = 200  # of how many examples the short form takes one


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """A case for each formula."""
    from tests.torture.oracles import CHECKS, hold  # here, because it takes a second

    def held(check: Any, number: int, first: int, folder: Path) -> Outcome:
        return Outcome(True, figures=hold(check, number, first))

    for check, examples in CHECKS.items():
        number, first = (-(-examples // SHORT) if short else examples), rng.getrandbits(32)
        yield check.__name__.removeprefix("of_"), partial(held, check, number, first)


def summary(figures: list[dict[str, float]]) -> str:
    """How many examples, and the largest errors."""
    known = [each for each in figures if each]
    worst = {name: max((each[name] for each in known), default=0.0) for name in ("float64", "float32")}
    total = int(sum(each["examples"] for each in known))
    return f"{total:,} examples; float64 {worst['float64']:.1e}, float32 {worst['float32']:.1e}"


ROW = Row(
    9,
    "formulas against float64 loops",
    "10,000 random examples, float64 <= 1e-9, float32 <= 1e-5",
    cases,
    seconds=600.0,
    summary=summary,
)
