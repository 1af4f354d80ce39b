"""The built-in trackers, registered by name. Importing this imports none of them."""

from __future__ import annotations

from rltrain.plugins import register_tracker

SERVICES = {
    "wandb": ("wandb", "Weights & Biases: online, or recorded in the run's folder for wandb sync."),
    "mlflow": ("mlflow", "MLflow: the server of MLFLOW_TRACKING_URI, or mlflow.db in the folder of all runs."),
    "comet": ("comet_ml", "Comet: online, or an archive in the run's folder for comet upload."),
    "trackio": ("trackio", "Trackio: a database in the folder of all runs, a server or a Space."),
    "dvclive": ("dvclive", "DVCLive: files in the run's folder that DVC and its extension of VS Code show."),
}
"""Trackers of other libraries: the module that each needs, and what it does."""


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
    for name, (module, what) in SERVICES.items():
        register_tracker(
            name,
            f"rltrain.trackers.{name}:{name.capitalize()}Tracker",
            description=what,
            own_process=True,
            needs=module,
            install=f"rltrain[{name}]",
        )
