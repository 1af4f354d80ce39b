"""Names and places of checkpoints in a run folder: which there are, and moving and removing whole ones."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from rltrain.errors import CheckpointError
from rltrain.storage.files import check_folder, is_gone, may_be_whole, reason, remove

POLICY, TRAINING, STATE, MANIFEST = "policy.safetensors", "training.safetensors", "state.json", "manifest.json"
RANK = "rank_"
CHECKPOINTS = "checkpoints"  # the folder in a run folder
VERSION = "version.json"  # in a run folder that is a version in a registry
PREFIX, TEMPORARY, PRUNED, SUPERSEDED = "step_", ".writing-", ".pruned-", "superseded_"


def step_name(step: int) -> str:
    """The directory name of the checkpoint at a step."""
    return f"{PREFIX}{step:012d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint directory, from its name."""
    return int(path.name.removeprefix(PREFIX))


def number_after(prefix: str, name: str) -> int | None:
    """The number in a name such as ``ppo_3``; None if it is not a prefix and plain digits."""
    found = re.fullmatch(rf"{re.escape(prefix)}(\d{{1,18}})", name, re.ASCII)
    return int(found[1]) if found else None


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, verified or not; links and other names are not looked at.

    Raises:
        CheckpointError: The folder is there and cannot be read.
    """
    try:
        check_folder(folder)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if is_gone(error):
            return []
        raise cannot_be_read(folder, error) from error
    steps = {name: number_after(PREFIX, name) for name in names}
    return [
        folder / step_name(step)
        for step in sorted(n for name, n in steps.items() if n is not None and step_name(n) == name)
    ]


def cannot_be_read(path: Path, error: BaseException) -> CheckpointError:
    """The error for a file that is there and cannot be read, whole or not."""
    fix = "It may be whole: make it readable, and try again." if may_be_whole(error) else "Use another checkpoint."
    return CheckpointError(f"'{path}' cannot be read: {reason(error)}.", fix)


def files_of(rank: int) -> tuple[str, str]:
    """The two files with the training state of a rank: tensors, and everything else."""
    return (f"{RANK}{rank}.safetensors", f"{RANK}{rank}.json") if rank else (TRAINING, STATE)


def prune(folder: Path, keep: int, also: int | None, common: int | None = None) -> None:
    """Removes all but the ``keep`` newest checkpoints and those at the steps ``also`` and ``common``.

    Each is renamed first, so that none is ever seen half removed.
    """
    for path in list_checkpoints(folder)[:-keep]:
        if step_of(path) not in (also, common):
            hidden = folder / f"{PRUNED}{path.name}-{secrets.token_hex(4)}"
            with suppress(OSError):
                path.rename(hidden)
                remove(hidden)


def set_aside(paths: list[Path]) -> Path | None:
    """Moves checkpoints into a folder of their own beside the others, so that nothing is ever overwritten.

    Returns:
        The folder; None if there are none to move.
    """
    if not paths:
        return None
    folder = paths[0].parent
    taken = [number_after(SUPERSEDED, path.name) or 0 for path in folder.glob(f"{SUPERSEDED}*")]
    aside = folder / f"{SUPERSEDED}{max(taken, default=0) + 1}"
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
    return aside


def remove_unfinished(folder: Path) -> None:
    """Removes checkpoints that a killed process left half written or half removed."""
    for pattern in (f"{TEMPORARY}*", f"{PRUNED}*"):
        for path in folder.glob(pattern):
            remove(path)
