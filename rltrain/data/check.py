"""Looks through datasets for what is wrong with them, or might be: each finding has a name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, ENDS, OBS, REWARD, leaves_of, shape_of
from rltrain.data.dataset import Dataset
from rltrain.spaces import MASK, categories_of

FINDINGS = {
    "wrong-shape": "a column has another shape or kind of numbers than its space",
    "not-finite": "NaN or infinite numbers",
    "outside-space": "numbers that the space does not have",
    "missing-action": "an action that nobody takes, or that is not known",
    "forbidden-action": "an action that its mask forbids",
    "unlabelled-end": "an episode that ends neither terminated nor truncated",
    "end-inside": "an episode that goes on after an end",
    "unknown-final": "a truncated episode whose last observation is not known",
    "duplicate-episode": "an episode that is there twice",
    "constant-column": "a number that never changes",
    "reward-range": "rewards outside the range that is given for them",
    "imbalance": "slices of very different size",
    "leak": "episodes, or people, in two splits",
}
"""Every finding, by name."""
ERRORS = ("wrong-shape", "not-finite", "forbidden-action", "end-inside", "reward-range", "leak")
"""The findings that make a dataset unfit; the others are for a person to judge."""
UNEVEN = 20.0
"""How many times larger the largest slice is than the smallest before it is reported."""


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a dataset, or might be.

    Attributes:
        name: One of :data:`FINDINGS`.
        text: What was found, and where first.
        count: How often.
    """

    name: str
    text: str
    count: int = 1

    @property
    def is_error(self) -> bool:
        """Whether the dataset is unfit."""
        return self.name in ERRORS

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'note'}: {self.name}: {self.text}"


def check_dataset(dataset: Dataset, *, reward_range: tuple[float, float] | None = None) -> list[Finding]:
    """Everything that was found in a dataset, errors first. Its files are read part by part.

    Args:
        dataset: The dataset.
        reward_range: The lowest and the highest reward that may be; those of the dataset by default, if it has some.
    """
    given = dataset.manifest.get("reward_range")
    bounds = reward_range or ((float(given[0]), float(given[1])) if given else None)
    found = [*_shapes(dataset)]
    if not found:
        found += [*_numbers(dataset, bounds), *_choices(dataset)]
    found += [*_ends(dataset), *_duplicates(dataset), *_slices(dataset)]
    return sorted(found, key=lambda each: not each.is_error)


def check_splits(datasets: Sequence[Dataset]) -> list[Finding]:
    """Episodes, and values of group columns, that are in more than one of these datasets."""
    found = []
    for i, first in enumerate(datasets):
        mine = episode_digests(first)
        for second in datasets[i + 1 :]:
            names = f"'{first.path}' and '{second.path}'"
            if shared := set(mine) & set(episode_digests(second)):
                number = mine.index(min(shared, key=mine.index))
                found.append(Finding("leak", f"{len(shared):,} episodes are in {names}, first {number}", len(shared)))
            for column in first.groups.keys() & second.groups.keys():
                both = sorted(_present(first, column) & _present(second, column))
                if both:
                    what = f"{len(both):,} values of '{column}' are in {names}, such as '{both[0]}'"
                    found.append(Finding("leak", what, len(both)))
    return found


def _present(dataset: Dataset, column: str) -> set[str]:
    return {dataset.groups[column][code] for code in np.unique(dataset.episodes.groups[column]).tolist()}


def episode_digests(dataset: Dataset) -> list[bytes]:
    """A checksum of what happened in each episode, whatever its seed, policy and group."""
    digests = []
    for first, after in dataset.ranges():
        steps = dataset.steps_of(np.arange(first, after))
        lengths = dataset.episodes.length[first:after]
        ends = np.cumsum(lengths)
        names = [name for name in sorted(dataset.columns) if name.partition(".")[0] in (OBS, ACTION, REWARD)]
        columns = {name: dataset.take(name, steps) for name in names}
        for start, end in zip((ends - lengths).tolist(), ends.tolist(), strict=True):
            digest = hashlib.sha256()
            for column in columns.values():
                digest.update(np.ascontiguousarray(column[start:end]).tobytes())
            digests.append(digest.digest())
    return digests


def _shapes(dataset: Dataset) -> Iterator[Finding]:
    for name, space in _leaves(dataset):
        column, shape = dataset.columns[name], shape_of(space)
        real = isinstance(space, spaces.Box) and space.dtype.kind == "f"
        if column.shape != shape:
            yield Finding("wrong-shape", f"'{name}' has the shape {column.shape}, and its space {shape}")
        elif (np.dtype(column.dtype).kind == "f") != real:
            yield Finding("wrong-shape", f"'{name}' is {column.dtype}, and its space is {str(space)[:80]}")


def _leaves(dataset: Dataset) -> list[tuple[str, spaces.Space]]:
    observed, acted = leaves_of(dataset.observation_space, OBS), leaves_of(dataset.action_space, ACTION)
    return [*observed.items(), *acted.items()]


class _Count:
    """How often something is so, and in which episode and step first."""

    def __init__(self, dataset: Dataset) -> None:
        self.end, self.start = dataset.episodes.end, dataset.episodes.start
        self.count, self.first = 0, -1

    def add(self, bad: np.ndarray, first_step: int) -> None:
        """Counts steps (M, ...) that are bad; the first of them has the number ``first_step``."""
        rows = bad.reshape(len(bad), -1).any(1)
        if rows.any() and self.first < 0:
            self.first = first_step + int(rows.argmax())
        self.count += int(rows.sum())

    def __str__(self) -> str:
        episode = int(np.searchsorted(self.end, self.first, side="right"))
        return f"in {self.count:,} steps, first in episode {episode}, step {self.first - int(self.start[episode])}"


def _blocks(dataset: Dataset, name: str) -> Iterator[tuple[int, np.ndarray]]:
    """A column in pieces, each with the number of its first step."""
    first = 0
    for part in dataset.parts:
        rows = dataset.read(name, first, first + int(part["steps"]))
        for start in range(0, len(rows), 2**16):
            yield first + start, rows[start : start + 2**16]
        first += len(rows)


def _numbers(dataset: Dataset, bounds: tuple[float, float] | None) -> Iterator[Finding]:
    """What single numbers show: not finite, outside the space or the range, never changing."""
    leaves = dict(_leaves(dataset))
    for name, column in dataset.columns.items():
        infinite, outside, beyond = _Count(dataset), _Count(dataset), _Count(dataset)
        low: Any = None
        high: Any = None
        space = leaves.get(name)
        real = np.dtype(column.dtype).kind == "f"
        for first, rows in _blocks(dataset, name):
            if real:
                infinite.add(~np.isfinite(rows), first)
            if space is not None:
                outside.add(_outside(space, rows), first)
            if name == REWARD and bounds is not None:
                beyond.add((rows < bounds[0]) | (rows > bounds[1]), first)
            low = rows.min(0) if low is None else np.minimum(low, rows.min(0))
            high = rows.max(0) if high is None else np.maximum(high, rows.max(0))
        if infinite.count:
            yield Finding("not-finite", f"'{name}' is NaN or infinite {infinite}", infinite.count)
        if outside.count and not (infinite.count and infinite.count == outside.count):
            yield Finding("outside-space", f"'{name}' is outside {str(space)[:60]} {outside}", outside.count)
        if beyond.count and bounds is not None:
            what = f"rewards are below {bounds[0]:g} or above {bounds[1]:g} {beyond}"
            yield Finding("reward-range", what, beyond.count)
        if name not in ENDS and name != f"{OBS}.{MASK}" and not isinstance(space, spaces.Text) and len(dataset) > 1:
            same = np.asarray(low == high).ravel()
            if same.any():
                which = (
                    "" if same.size == 1 else f" in {int(same.sum()):,} of {same.size:,} numbers, first {same.argmax()}"
                )
                yield Finding("constant-column", f"'{name}' never changes{which}", int(same.sum()))


def _outside(space: spaces.Space, rows: np.ndarray) -> np.ndarray:
    if isinstance(space, spaces.Box):
        return (rows < space.low) | (rows > space.high)
    if isinstance(space, spaces.Text):
        return np.zeros(len(rows), bool)
    low, high = categories_of(space) or (0, 0)
    return (rows < low) | (rows > high)


def _choices(dataset: Dataset) -> Iterator[Finding]:
    """Actions that nobody takes, and such as the mask forbids."""
    for name, space in leaves_of(dataset.action_space, ACTION).items():
        if not isinstance(space, spaces.Discrete):
            continue
        taken = np.zeros(int(space.n), np.int64)
        for _, rows in _blocks(dataset, name):
            inside = rows[(rows >= space.start) & (rows < space.start + space.n)] - int(space.start)
            taken += np.bincount(inside, minlength=int(space.n))
        idle = np.flatnonzero(taken == 0) + int(space.start)
        if len(idle):
            listed = ", ".join(map(str, idle[:10].tolist()))
            yield Finding(
                "missing-action", f"nobody takes {listed} of '{name}' ({len(idle):,} of {space.n})", len(idle)
            )
        elif taken.max() > UNEVEN * taken.min():
            rare, often = int(taken.argmin()) + int(space.start), int(taken.argmax()) + int(space.start)
            what = f"'{name}' is {often} in {taken.max():,} steps and {rare} in {taken.min():,}"
            yield Finding("imbalance", what)
    if f"{OBS}.{MASK}" in dataset.columns and isinstance(dataset.action_space, spaces.Discrete):
        forbidden = forbidden_steps(dataset)
        if forbidden.count:
            yield Finding("forbidden-action", f"the mask forbids the action {forbidden}", forbidden.count)


def forbidden_steps(dataset: Dataset) -> _Count:
    """The steps whose Discrete action the mask of the observation forbids."""
    forbidden, start = _Count(dataset), int(dataset.action_space.start)  # type: ignore[attr-defined]
    for first, masks in _blocks(dataset, f"{OBS}.{MASK}"):
        actions = dataset.read(ACTION, first, first + len(masks)).astype(np.int64) - start
        inside = np.clip(actions, 0, masks.shape[1] - 1)
        forbidden.add((masks[np.arange(len(masks)), inside] == 0) & (masks != 0).any(1), first)
    return forbidden


def _ends(dataset: Dataset) -> Iterator[Finding]:
    terminated, truncated = dataset.ends()
    open_ = ~terminated & ~truncated
    if open_.any():
        what = f"{int(open_.sum()):,} of {len(open_):,} episodes end neither terminated nor truncated"
        yield Finding("unlabelled-end", f"{what}, first {open_.argmax()}", int(open_.sum()))
    unknown = truncated & ~terminated & ~dataset.episodes.has_final
    if unknown.any():
        what = f"of {int(unknown.sum()):,} truncated episodes the last observation is not known"
        yield Finding("unknown-final", f"{what}, first {unknown.argmax()}", int(unknown.sum()))
    inside, last = _Count(dataset), np.zeros(len(dataset), bool)
    last[dataset.episodes.end - 1] = True
    for name in ENDS:
        for first, rows in _blocks(dataset, name):
            inside.add(rows & ~last[first : first + len(rows)], first)
    if inside.count:
        yield Finding("end-inside", f"episodes go on after an end {inside}", inside.count)


def _duplicates(dataset: Dataset) -> Iterator[Finding]:
    seen: dict[bytes, int] = {}
    twice = []
    for number, digest in enumerate(episode_digests(dataset)):
        if digest in seen:
            twice.append((seen[digest], number))
        seen.setdefault(digest, number)
    if twice:
        what = f"{len(twice):,} episodes are there before, first {twice[0][1]}, which is {twice[0][0]} again"
        yield Finding("duplicate-episode", what, len(twice))


def _slices(dataset: Dataset) -> Iterator[Finding]:
    """Policies and groups of very different size."""
    named = [("policies", dataset.episodes.policy, [str(each["name"]) for each in dataset.policies])]
    named += [(f"values of '{name}'", dataset.episodes.groups[name], values) for name, values in dataset.groups.items()]
    for what, codes, values in named:
        counts = np.bincount(codes, minlength=len(values))
        present = np.flatnonzero(counts)
        if len(present) < 2:
            continue
        few, many = present[counts[present].argmin()], present[counts[present].argmax()]
        if counts[many] > UNEVEN * counts[few]:
            text = f"of the {what}, '{values[many]}' has {counts[many]:,} episodes and '{values[few]}' {counts[few]:,}"
            yield Finding("imbalance", text)
