"""Deletes the episodes of a person, or of any other value of a column: a new version takes the place of the old one."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np

from rltrain.data.card import read_card
from rltrain.data.copying import copy_episodes, writer_like
from rltrain.data.dataset import Dataset
from rltrain.data.layout import HIDDEN, MANIFEST, unwritable
from rltrain.data.personal import pseudonym
from rltrain.errors import ConfigError, DatasetError, did_you_mean
from rltrain.naming.arguments import typed
from rltrain.storage.files import exists, remove, sync_directory
from rltrain.storage.making import making, remove_abandoned

NEW = ".new-"
POLICY = "policy"
"""The column name that stands for who acted."""


@typed()
def delete_episodes(dataset: Dataset, column: str, value: str, *, key: bytes | None = None) -> Dataset:
    """Writes the dataset without the episodes in which a group column, or ``policy``, has a value.

    The new version has the old one's checksum among its ancestors; the old one is removed from the disk. The value
    itself is written nowhere.

    Args:
        dataset: The dataset; its object must not be used afterwards.
        column: The column.
        value: The value, as it was before it was hashed.
        key: The key by which it was hashed, if it was.

    Raises:
        ConfigError: There is no such column or value, or a key is missing.
        DatasetError: Nothing would be left, or the new version cannot be written.
    """
    values = [str(each["name"]) for each in dataset.policies] if column == POLICY else dataset.groups.get(column)
    if values is None:
        known = [*dataset.groups, POLICY]
        fix = did_you_mean(column, known, f"It has: {', '.join(known)}.")
        raise ConfigError(f"'{dataset.path}' has no group column '{column}'.", fix)
    hashed = {each["column"] for each in dataset.manifest.get("personal", []) if each["treatment"] == "keyed hash"}
    wanted = value if key is None else pseudonym(value, key)
    if wanted not in values:
        fix = "Check its spelling."
        if column in hashed:
            fix = (
                "Its values are hashed: give the key of the import." if key is None else "Is it the key of the import?"
            )
        raise ConfigError(f"No episode of '{dataset.path}' has this value of '{column}'.", fix)
    codes = dataset.episodes.policy if column == POLICY else dataset.episodes.groups[column]
    stays = codes != values.index(wanted)
    if not stays.any():
        raise DatasetError("Every episode has this value: nothing would be left.", f"Remove '{dataset.path}' yourself.")
    dataset.verify()
    path = dataset.path.absolute()
    aside = path.with_name(f"{HIDDEN}{path.name}-{secrets.token_hex(4)}")
    gone = {"column": column, "episodes": int((~stays).sum()), "from_version": dataset.checksum}
    try:
        with making(path, NEW) as folder:
            new = folder / path.name
            with writer_like(dataset, new, "episodes deleted", name=dataset.name) as writer:
                writer.card = read_card(path)
                writer.card.deletions.append(gone)
                kept = np.unique(dataset.episodes.policy[stays])
                writer.manifest["policies"] = [dataset.policies[code] for code in kept.tolist()]
                copy_episodes(dataset, writer, stays, policies=np.searchsorted(kept, np.arange(len(dataset.policies))))
            path.rename(aside)
            try:
                new.rename(path)
            except OSError:
                aside.rename(path)
                raise
            sync_directory(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error
    for each in path.parent.glob(f"{HIDDEN}{path.name}-*"):  # also of a process that was killed here
        remove(each)
        if exists(each):
            raise DatasetError(f"The old version '{each}' cannot be removed.", "Remove it yourself.")
    return Dataset.open(path)


def recover(path: Path) -> None:
    """Puts a dataset back whose deletion was cut off between the renaming of the old version and of the new one.

    Where the new one has its place, what a killed process left of the old one is removed.

    Raises:
        DatasetError: It cannot be put back.
    """
    path = path.absolute()
    try:
        remove_abandoned(path, NEW)
        if exists(path):
            remove_abandoned(path, HIDDEN)
            return
        for each in sorted(path.parent.glob(f"{HIDDEN}{path.name}-*")):
            each.rename(path)
            sync_directory(path.parent)
            return
    except OSError as error:
        raise unwritable(path, error) from error


def made_from(checksum: str, root: Path) -> list[Path]:
    """Datasets in a folder, or in folders of it, that were made from one: they have its episodes still."""
    found = []
    for manifest in sorted((*root.glob(f"*/{MANIFEST}"), *root.glob(f"*/*/{MANIFEST}"))):
        try:
            dataset = Dataset.open(manifest.parent)
        except DatasetError:
            continue
        if checksum in dataset.ancestors:
            found.append(manifest.parent)
    return found
