"""What a dataset's folder holds, and the errors for one that cannot be used.

``expert/`` holds::

    data_00000.safetensors   columns of a run of steps, in the order of the episodes; further parts follow
    episodes.safetensors     a row for each episode: length, return, seed, policy, groups
    dataset.json             spaces, columns, origin, size and SHA-256 of the files above; sealed and written last
    card.yaml                the dataset card, which people edit: it is not among the files with checksums
"""

from __future__ import annotations

from pathlib import Path

from rltrain.errors import DatasetError
from rltrain.storage.files import MIB, is_gone, may_be_whole, reason

MANIFEST, TABLE, CARD = "dataset.json", "episodes.safetensors", "card.yaml"
FORMAT = 1
HIDDEN = ".removed-"
"""What the name of the old version begins with while 'data delete' puts the new one in its place."""
MANIFEST_LIMIT = 256 * MIB
PART_BYTES = 128 * MIB
"""Bytes after which a new part begins, and so about what writing takes of memory."""
NO_SEED = -1
"""The seed of an episode that is not known."""


def part_name(number: int) -> str:
    """The name of a part's file."""
    return f"data_{number:05d}.safetensors"


def unreadable(path: Path, error: BaseException) -> DatasetError:
    """The error for a file of a dataset that cannot be read, or is not what it should be."""
    if is_gone(error):
        if path.name == MANIFEST:
            folder, fix = path.parent.absolute(), "Name a folder with a dataset.json."
            if any(folder.parent.glob(f"{HIDDEN}{folder.name}-*")):
                fix = "A deletion was cut off there: 'rltrain data delete' puts the dataset back, and deletes."
            return DatasetError(f"There is no dataset in '{path.parent}'.", fix)
        return DatasetError(f"'{path}' is missing.", "The dataset is damaged: take it from where it came.")
    if may_be_whole(error):
        return DatasetError(f"'{path}' cannot be read: {reason(error)}.", "Make it readable, and try again.")
    return damaged(path, reason(error))


def damaged(path: Path, what: str) -> DatasetError:
    """The error for a damaged file."""
    return DatasetError(f"'{path}' cannot be used: {what}.", "The dataset is damaged: take it from where it came.")


def unwritable(path: Path, error: BaseException) -> DatasetError:
    """The error for a dataset that cannot be written."""
    return DatasetError(f"'{path}' cannot be written: {reason(error)}.", "Make room, or write it somewhere else.")
