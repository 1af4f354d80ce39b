"""Row 13: what watching over a run costs, and for how long training stands still for a checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks import watching_cost
from benchmarks.checkpoint_stall import measure
from tests.torture.frame import Case, Outcome, Row

MOST = 100.0  # milliseconds
SHARE = 0.02  # of an update without watching
PAIRS = 400


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """A replay that fills, then checkpoints of all of it and of what has changed."""
    sizes = [(6_000, 1_280)] if short else [(100_000, 20_000), (1_000_000, 100_000)]
    for places, save_every in sizes:
        yield f"{places:,} places", lambda folder, p=places, s=save_every: stalls(folder, p, s, by_clock=not short)
    for kind in ["ppo", "sac"] if short else watching_cost.KINDS:
        yield f"watching {kind}", lambda folder, k=kind: watched(folder, k, by_clock=not short)


def watched(folder: Path, kind: str, *, by_clock: bool) -> Outcome:
    """By the processor time of the training thread, or on a machine that does other things by counted operations."""
    cost = watching_cost.measure(kind, PAIRS if by_clock else 1, folder)
    share = cost.time if by_clock else cost.operations
    assert share <= SHARE, f"{share:.1%} ({cost.low:.1%} to {cost.high:.1%}), {cost.operations:.1%} of operations"
    return Outcome(True, figures={"share": share})


def stalls(folder: Path, places: int, save_every: int, *, by_clock: bool) -> Outcome:
    """By the clock on a machine that does nothing else, by the training thread's processor time on any other."""
    rows = measure(places, save_every, 2, folder)
    assert len(rows) >= 3, f"{len(rows)} checkpoints"
    longest = max(row["stall" if by_clock else "processor"] for row in rows[:3])
    assert longest <= MOST, f"{longest:.0f} ms"
    return Outcome(True, figures={"MB": rows[0]["megabytes"], "ms": longest})


def summary(figures: list[dict[str, float]]) -> str:
    """Both figures."""
    stalled = [f"{each['MB']:.0f} MB: {each['ms']:.0f} ms" for each in figures if "MB" in each]
    shares = [each["share"] for each in figures if "share" in each]
    return ", ".join([*stalled, *([f"watching at most {max(shares):.1%}"] if shares else [])])


ROW = Row(
    13,
    "cost of all watching; stall of training per checkpoint of a replay",
    f"at most {SHARE:.0%}; at most {MOST:.0f} ms",
    cases,
    seconds=900.0,
    jobs=1,
    summary=summary,
)
