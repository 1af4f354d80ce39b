"""What becomes of a run whose checkpoint cannot be written: it goes on, or saves elsewhere and stops."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from rltrain.config import TrainConfig
from rltrain.distributed.ranks import Ranks
from rltrain.errors import CheckpointError, RLTrainError
from rltrain.runs.checkpoint import save_checkpoint
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import CHECKPOINTS
from rltrain.runs.lock import FolderMoved


class Saving(Protocol):
    """What is needed of a trainer to save its state."""

    config: TrainConfig
    folder: RunFolder
    ranks: Ranks
    global_step: int

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The actor's tensors and the training state."""


@contextmanager
def failures_handled(trainer: Saving, *, last: bool = False) -> Iterator[None]:
    """Handles the failure of a checkpoint as the configuration says; all ranks enter this together.

    Args:
        trainer: The trainer.
        last: Whether no later checkpoint can make up for it.

    Raises:
        FolderMoved: The run folder was moved.
        CheckpointError: A checkpoint cannot be written. Either error names the folder where the state was saved
            instead, if it could be.
    """
    try:
        _check_place(trainer)
        yield
    except (CheckpointError, FolderMoved) as error:
        if trainer.config.if_save_fails == "continue" and not last and not isinstance(error, FolderMoved):
            warnings.warn(f"{error.cause} Training goes on without it.", stacklevel=4)
            return
        place = _save_elsewhere(trainer, error)
        if place is None:
            raise
        saved = type(error)(
            f"{error.cause} Step {trainer.global_step:,} is saved in '{place}'.",
            f"Go on with: rltrain resume {place}",
        )
        if isinstance(error, FolderMoved) and isinstance(saved, FolderMoved):
            saved.place = error.place
        raise saved from error


def notice_move(trainer: Saving) -> None:
    """Checks that the run folder is where it was, and else saves elsewhere; all ranks call this together.

    Raises:
        FolderMoved: It is not.
    """
    with failures_handled(trainer):
        pass


def _check_place(trainer: Saving) -> None:
    """Checks that the run folder is where it was; all ranks call this together.

    Raises:
        FolderMoved: It is not.
    """
    moved = None
    if trainer.ranks.first:
        try:
            trainer.folder.check_place()
        except FolderMoved as error:
            moved = error
    said = trainer.ranks.broadcast_object(None if moved is None else [moved.cause, moved.fix])
    if said is not None:
        raise moved or FolderMoved(*said)


def _save_elsewhere(trainer: Saving, error: RLTrainError) -> Path | None:
    """Saves where the run folder has been moved to, else in the fallback folder; returns the run folder there."""
    ranks, place, facts = trainer.ranks, None, None
    if ranks.first:
        with suppress(RLTrainError):
            folder = RunFolder(moved_to) if (moved_to := getattr(error, "place", None)) else _fallback(trainer)
            if folder is not None:
                place, facts = folder.path, folder.facts()
    place = ranks.broadcast_object(None if place is None else str(place))
    if place is None:
        return None
    try:
        save_checkpoint(Path(place) / CHECKPOINTS, trainer.global_step, *trainer.snapshot(), ranks, facts=facts)
    except CheckpointError as another:
        warnings.warn(another.cause, stacklevel=5)
        return None
    return Path(place)


def _fallback(trainer: Saving) -> RunFolder | None:
    """A new run folder in the fallback folder, if there is one."""
    if trainer.config.fallback_dir is None:
        return None
    config = trainer.config.model_copy(update={"run_dir": trainer.config.fallback_dir})
    metadata = {**trainer.folder.facts()["metadata"], "status": "failed", "saved_from": str(trainer.folder.path)}
    try:
        folder = RunFolder.create(config, metadata)
    except RLTrainError as error:
        warnings.warn(f"Nor can it be saved elsewhere. {error.cause}", stacklevel=6)
        return None
    folder.release()
    return folder
