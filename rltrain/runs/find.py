"""Finds a checkpoint of a run by name or step, also while the run removes old ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from rltrain.errors import CheckpointError
from rltrain.runs.layout import CHECKPOINTS, PREFIX, cannot_be_read, list_checkpoints, number_after, step_name, step_of
from rltrain.runs.verify import find_fault, newest_good
from rltrain.storage.files import Damaged, exists, is_gone
from rltrain.storage.records import read_record

BEST = "best.json"
TRIES = 20
"""How often a reader looks again while checkpoints vanish under it."""
T = TypeVar("T")


def read_checkpoint(run: Path, which: str | int | Path, use: Callable[[Path], T]) -> tuple[Path, list[str], T]:
    """Reads a checkpoint; looks for another one if the run removes it meanwhile.

    Args:
        run: The run folder.
        which: ``latest``, ``best``, a step, or a checkpoint directory of this run.
        use: The function that reads it.

    Returns:
        The checkpoint, a line for each damaged one that was passed over, and what ``use`` returns.

    Raises:
        CheckpointError: There is none, the one asked for is damaged, or one may be whole and cannot be read.
    """
    for attempt in range(TRIES):
        path, skipped = find_checkpoint(run, which)
        try:
            return path, skipped, use(path)
        except CheckpointError:
            if path.exists() or attempt == TRIES - 1:
                raise
    raise AssertionError


def find_checkpoint(run: Path, which: str | int | Path = "latest") -> tuple[Path, list[str]]:
    """A verified checkpoint, and a line for each damaged one that was passed over; see :func:`read_checkpoint`."""
    for attempt in range(TRIES):
        path, faults = _look(run, which)
        damaged = [(each, fault) for each, fault in faults if each.exists()]
        if path is not None:
            return path, [
                f"The checkpoint '{each}' is damaged and was passed over: {fault}." for each, fault in damaged
            ]
        if len(damaged) == len(faults) or attempt == TRIES - 1:  # none was removed while it was looked at
            break
    each, fault = faults[0]
    said = f"The checkpoint '{each}' is damaged: {fault}."
    if which == "latest":
        raise CheckpointError(f"No checkpoint of '{run}' is whole. {said}", "Put one back from a copy of the folder.")
    raise CheckpointError(said, "Use --checkpoint latest.")


def _look(run: Path, which: str | int | Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """An intact checkpoint, if there is one, and the damaged ones that were looked at, with their faults."""
    folder = run / CHECKPOINTS
    known = [step_of(path) for path in list_checkpoints(folder)]
    if not known:
        raise CheckpointError(f"'{run}' has no checkpoint yet.", "Train for longer, or set a smaller --save-freq.")
    if which == "latest":
        faults: list[tuple[Path, str]] = []
        for path, fault in newest_good(folder):
            if fault is None:
                return path, faults
            faults.append((path, fault))
        return None, faults
    if which == "best":
        best = read_best(folder)
        if best is None:
            raise CheckpointError(
                f"'{run}' was not evaluated while it trained, so no checkpoint is the best.",
                "Use --checkpoint latest, or train with --eval-freq.",
            )
        which = best["step"]
    name = which.name.removeprefix(PREFIX) if isinstance(which, Path) else str(which)
    step = number_after("", name)
    if step is None or step not in known:
        best_too = ["best"] if exists(folder / BEST) else []
        there = ", ".join(map(str, ["latest", *best_too, *known]))
        raise CheckpointError(f"'{run}' has no checkpoint '{name}'.", f"It has: {there}.")
    path = folder / step_name(step)
    fault = find_fault(path)
    return (path, []) if fault is None else (None, [(path, fault)])


def read_best(folder: Path) -> dict[str, Any] | None:
    """``step`` and ``mean_reward`` of the checkpoint that evaluated best, if there is one.

    Raises:
        CheckpointError: The file that says so cannot be read.
    """
    try:
        best = read_record(folder / BEST)
        if type(best.get("step")) is not int:
            raise Damaged("'step' is missing")
    except (OSError, Damaged) as error:
        if is_gone(error):
            return None
        raise cannot_be_read(folder / BEST, error) from error
    return best
