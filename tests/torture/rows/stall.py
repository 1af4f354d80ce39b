"""Row 13: for how long training stands still for a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.checkpoint_stall import measure
from tests.torture.frame import Case, Outcome, Row

MOST = 100.0  # milliseconds


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """A replay that fills, then checkpoints of all of it and of what has changed."""
    sizes = [(6_000, 1_280)] if short else [(100_000, 20_000), (1_000_000, 100_000)]
    for places, save_every in sizes:
        yield f"{places:,} places", lambda folder, p=places, s=save_every: stalls(folder, p, s, by_clock=not short)


def stalls(folder: Path, places: int, save_every: int, *, by_clock: bool) -> Outcome:
    """By the clock on a machine that does nothing else, by the training thread's processor time on any other."""
    rows = measure(places, save_every, 2, folder)
    assert len(rows) >= 3, f"{len(rows)} checkpoints"
    longest = max(row["stall" if by_clock else "processor"] for row in rows[:3])
    assert longest <= MOST, f"{longest:.0f} ms"
    return Outcome(True, figures={"MB": rows[0]["megabytes"], "ms": longest})


ROW = Row(
    13,
    "stall of training per checkpoint of a replay",
    f"at most {MOST:.0f} ms",
    cases,
    seconds=900.0,
    jobs=1,
    summary=lambda figures: ", ".join(f"{each['MB']:.0f} MB: {each['ms']:.0f} ms" for each in figures if "MB" in each),
)
