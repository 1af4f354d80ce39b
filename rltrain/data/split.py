"""Splits a dataset by whole episodes, or by the values of a column, so that nobody is in two splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rltrain.data.check import episode_digests
from rltrain.data.copying import copy_episodes, writer_like
from rltrain.data.dataset import Dataset
from rltrain.data.layout import unwritable
from rltrain.errors import ConfigError, DatasetError, did_you_mean
from rltrain.naming.arguments import typed
from rltrain.storage.files import exists, sync_directory
from rltrain.storage.making import making


def assign(dataset: Dataset, shares: Mapping[str, float], *, by: str | None = None, seed: int = 0) -> np.ndarray:
    """Which split each episode goes to: (E,) index into ``shares``.

    Episodes that are equal go to the same split. The blocks, of equal episodes or of one value of ``by``, are drawn in
    a random order, and each goes where most episodes are lacking.

    Args:
        dataset: The dataset.
        shares: Share of the episodes by the name of the split; they are divided by their sum.
        by: A group column whose values must not be divided.
        seed: Seed of the order.

    Raises:
        ConfigError: There is no such column, or a split would be empty.
    """
    if by is not None and by not in dataset.groups:
        known = ", ".join(dataset.groups) or "none"
        raise ConfigError(
            f"'{dataset.path}' has no group column '{by}'.", did_you_mean(by, dataset.groups, f"It has: {known}.")
        )
    keys = unite(episode_digests(dataset), None if by is None else dataset.episodes.groups[by])
    _, block_of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    names = list(shares)
    wanted = np.array([shares[name] for name in names], np.float64)
    wanted *= len(dataset.episodes) / wanted.sum()
    split_of_block = np.zeros(len(sizes), np.int64)
    has = np.zeros(len(names))
    order = np.random.default_rng(seed).permutation(len(sizes))
    for block in order[np.argsort(-sizes[order], kind="stable")] if by is not None else order:
        split_of_block[block] = (wanted - has).argmax()
        has[split_of_block[block]] += sizes[block]
    if (has == 0).any():
        what = f"{len(sizes):,} {'values' if by is not None else 'different episodes'}"
        raise ConfigError(f"The split '{names[int(has.argmin())]}' would be empty: there are {what}.", "Ask for fewer.")
    return split_of_block[block_of]


def unite(digests: list[bytes], groups: np.ndarray | None) -> np.ndarray:
    """A number for each episode, equal for episodes that must stay together: equal ones, and those of one group."""
    parent = list(range(len(digests)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (digests, [] if groups is None else groups.tolist()):
        first: dict[object, int] = {}
        for number, key in enumerate(keys):
            a, b = root(first.setdefault(key, number)), root(number)
            parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(len(digests))])


@typed()
def split_dataset(
    dataset: Dataset, out: str | Path, shares: Mapping[str, float], *, by: str | None = None, seed: int = 0
) -> dict[str, Dataset]:
    """Writes the splits as datasets ``out/NAME``, all of them or none; see :func:`assign`.

    Raises:
        ConfigError: A name or a share does not fit.
        DatasetError: There is something at ``out``, or it cannot be written.
    """
    for name, share in shares.items():
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"A split cannot be named '{name}'.", "Use letters, numbers, - and _.")
        if not 0.0 < share < float("inf"):
            raise ConfigError(f"The split '{name}' has no share: {share:g}.", "Give it a number above 0.")
    out = Path(out)
    if exists(out):
        raise DatasetError(f"There is something at '{out}' already.", "Choose another place for it.")
    chosen = assign(dataset, shares, by=by, seed=seed)
    if not out.absolute().parent.is_dir():
        raise DatasetError(f"There is no folder '{out.parent}'.", "Make it first.")
    try:
        with making(out) as temporary:
            for index, name in enumerate(shares):
                with writer_like(dataset, temporary / name, f"split {name} of {dataset.name}", by=by) as writer:
                    copy_episodes(dataset, writer, chosen == index)
            temporary.rename(out)
            sync_directory(out.parent)
    except OSError as error:
        raise unwritable(out, error) from error
    return {name: Dataset.open(out / name) for name in shares}
