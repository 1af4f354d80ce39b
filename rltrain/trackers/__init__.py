"""The built-in trackers, registered by name. Importing this imports none of them."""

from __future__ import annotations

from rltrain.plugins import register_tracker


def register() -> None:
    """Registers every built-in tracker; called through the entry-point group ``rltrain.trackers``."""
    register_tracker(
        "console",
        "rltrain.trackers.console:ConsoleTracker",
        description="Progress on the terminal or in a notebook.",
        display=True,
    )
    register_tracker(
        "csv",
        "rltrain.trackers.csv:CsvTracker",
        description="All metrics as a table, progress.csv, from which learning curves are drawn.",
    )
    register_tracker(
        "tensorboard",
        "rltrain.trackers.tensorboard:TensorBoardTracker",
        description="Event files for TensorBoard, in the run's folder.",
    )
