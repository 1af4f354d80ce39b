"""The metrics of a run in Weights & Biases."""

from __future__ import annotations

import html
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rltrain.tracker import RunInfo
from rltrain.trackers.service import ServiceTracker

STEP = "time/total_timesteps"
"""The metric that the others are drawn over."""

INIT_SECONDS = 20.0
"""How long to wait for the service before a run is recorded offline."""


class WandbTracker(ServiceTracker):
    """Writes a run of Weights & Biases.

    Its own environment variables hold: ``WANDB_PROJECT`` (``rltrain`` by default), ``WANDB_ENTITY``, ``WANDB_MODE``,
    ``WANDB_TAGS`` and so on. Without a key of the service, and where it cannot be reached, the run is recorded in the
    run folder, for ``wandb sync``.

    Args:
        run: The run.
    """

    service = "wandb"

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        import wandb

        self._wandb = wandb
        id = self.known_id or secrets.token_hex(4)
        self.remember(id)
        timeout: dict[str, Any] = {} if "WANDB_INIT_TIMEOUT" in os.environ else {"init_timeout": INIT_SECONDS}
        options: dict[str, Any] = {
            "id": id,
            "name": os.environ.get("WANDB_NAME", run.name),
            "project": os.environ.get("WANDB_PROJECT", "rltrain"),
            "notes": os.environ.get("WANDB_NOTES", run.title),
            "dir": str(run.run_dir),
            "settings": wandb.Settings(console="off", silent=True, save_code=False, **timeout),
        }
        try:
            online = os.environ.get("WANDB_MODE") != "offline"
            self._run: Any = wandb.init(resume="allow" if online else None, **options)  # offline it would only warn
        except wandb.errors.Error:  # there is no key, or no network
            self._run = wandb.init(mode="offline", **options)
        self.remember(id, f"wandb sync {Path(self._run.dir).parent}" if self._run.offline else self._run.url)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a row."""
        self._run.log({**metrics, STEP: step})

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture."""
        self._run.log({tag: self._wandb.Image(image), STEP: step})

    def video(self, path: Path, step: int) -> None:
        """Adds a film."""
        self._run.log({"videos": self._wandb.Video(str(path), format="mp4"), STEP: step})

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds a histogram of the finite values."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self._run.log({tag: self._wandb.Histogram(finite), STEP: step})

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text as it stands."""
        self._run.log({tag: self._wandb.Html(f"<pre>{html.escape(text)}</pre>"), STEP: step})

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Sets the configuration."""
        self._run.config.update(dict(values), allow_val_change=True)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Writes the summary and the model."""
        super().finish(metrics)
        self._run.summary.update(dict(metrics))

    def close(self) -> None:
        """Ends the run; one that did not finish is marked as failed."""
        self._run.finish(exit_code=0 if self.finished else 1)

    def add_file(self, path: Path, kind: str) -> None:
        """Adds a file as an artifact of its kind; pictures are shown too."""
        if path.suffix == ".png":
            self._run.log({kind: self._wandb.Image(str(path))})
        artifact = self._wandb.Artifact(f"{self._run.id}-{kind}", type=kind)
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def add_model(self, checkpoint: Path) -> None:
        """Adds a version of the model."""
        artifact = self._wandb.Artifact(f"{self._run.id}-model", type="model", metadata={"checkpoint": checkpoint.name})
        for name, file in self.model_files(checkpoint).items():
            artifact.add_file(str(file), name)
        self._run.log_artifact(artifact)
