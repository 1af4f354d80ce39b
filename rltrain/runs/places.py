"""Where run folders are: ``<run_dir>/<environment>/<agent>_<k>``."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from rltrain.config import TrainConfig
from rltrain.distributed.ranks import job_name
from rltrain.errors import CheckpointError
from rltrain.runs.config_file import CONFIG
from rltrain.runs.layout import CHECKPOINTS, list_checkpoints, number_after
from rltrain.runs.metadata import METADATA, Metadata
from rltrain.settings import to_yaml
from rltrain.storage.files import Damaged, may_be_whole, read_bytes, reason

MARKS = ((CONFIG, False), (METADATA, False), ("progress.csv", False), (CHECKPOINTS, True))
"""What tells a run folder: names, and whether they are folders. One of them is enough, so that broken ones count."""
LEVELS = 4
MOST_ENTRIES = 100_000


def next_folder(config: TrainConfig) -> Path:
    """Makes the next free folder for a run, and those that it lies in.

    Raises:
        OSError: It cannot be made.
    """
    parent = parent_of(config)
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max(_numbered(config).values(), default=0)
    while True:
        path = parent / f"{_prefix(config)}{number}"
        try:
            path.mkdir()
            return path
        except FileExistsError:  # another run took the name just now
            number += 1


def find_unfinished(config: TrainConfig) -> Path | None:
    """The newest run folder that this process's job has begun and not finished, if there is one.

    It has the same configuration and a checkpoint to continue from; see
    :func:`~rltrain.distributed.ranks.job_name`.
    """
    name, goes_on = job_name() or (None, False)
    if not goes_on:
        return None
    text = to_yaml(config).encode()
    for path in reversed(_numbered(config)):
        try:
            metadata = Metadata(path).read()
            same = metadata.get("job") == name and read_bytes(path / CONFIG) == text
        except (CheckpointError, OSError, Damaged):
            continue
        if same:
            return path if metadata.get("status") != "completed" and list_checkpoints(path / CHECKPOINTS) else None
    return None


def parent_of(config: TrainConfig) -> Path:
    """The folder with the runs of an environment."""
    return Path(config.run_dir) / config.env.id.replace("/", "-")


def runs_inside(path: Path) -> list[str]:
    """Run folders a few levels inside another folder; no more of it is looked at."""
    patterns = [f"{'*/' * depth}{CONFIG}" for depth in (1, 2, 3)]
    with suppress(OSError):
        return sorted(str(p.parent) for pattern in patterns for p in islice(path.glob(pattern), 100))
    return []


def find_runs(path: Path) -> list[Path]:
    """All run folders in a folder, whole or not; ``ppo_2`` comes before ``ppo_10``. Links are not followed.

    Args:
        path: A run folder, which is the only one then, or a folder with run folders up to four levels inside.

    Raises:
        CheckpointError: It cannot be read, or holds more than 100,000 files and folders.
    """
    found: list[Path] = []
    seen = 0
    level = [path]
    for _ in range(LEVELS + 1):
        inner = []
        for folder in level:
            try:
                with os.scandir(folder) as entries:
                    kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
            except OSError as error:
                if folder == path:
                    fix = "Make it readable." if may_be_whole(error) else "Name a folder that has runs in it."
                    raise CheckpointError(f"'{path}' cannot be read: {reason(error)}.", fix) from error
                continue  # what cannot be looked into may be no run at all
            seen += len(kinds)
            if seen > MOST_ENTRIES:
                raise CheckpointError(
                    f"'{path}' holds more than {MOST_ENTRIES:,} files and folders.", "Name a folder inside it."
                )
            if any(name in kinds and kinds[name] is is_folder for name, is_folder in MARKS):
                found.append(folder)
            else:
                inner += [folder / name for name, is_folder in kinds.items() if is_folder and name[:1] != "."]
        level = inner
    return sorted(found, key=_natural)


def _natural(path: Path) -> list[list[tuple[str, int]]]:
    """A key by which names with numbers in them are sorted by the numbers."""
    return [[(word, int(f"0{n}")) for word, n in re.findall(r"(\D+|^)(\d{0,18})", part)] for part in path.parts]


def _numbered(config: TrainConfig) -> dict[Path, int]:
    """The folders ``<agent>_<k>`` of an environment and an agent, by number."""
    found = [(path, number_after(_prefix(config), path.name)) for path in parent_of(config).glob(f"{_prefix(config)}*")]
    return dict(sorted(((path, k) for path, k in found if k is not None), key=lambda each: each[1]))


def _prefix(config: TrainConfig) -> str:
    return f"{config.algo.replace('/', '-')}_"
