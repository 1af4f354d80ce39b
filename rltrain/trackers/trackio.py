"""The metrics of a run in Trackio."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rltrain.tracker import RunInfo
from rltrain.trackers.service import ServiceTracker


class TrackioTracker(ServiceTracker):
    """Writes a run of Trackio.

    Unless ``TRACKIO_DIR``, ``TRACKIO_SPACE_ID`` or ``TRACKIO_SERVER_URL`` says where, it is a database in the folder
    ``trackio`` of the folder of all runs. ``TRACKIO_PROJECT`` names the project; ``rltrain`` by default.

    Args:
        run: The run.
    """

    service = "trackio"

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        folder = run.run_dir.absolute().parent.parent / "trackio"
        away = "TRACKIO_SPACE_ID" in os.environ or "TRACKIO_SERVER_URL" in os.environ
        place = os.environ.setdefault("TRACKIO_DIR", str(folder))
        import trackio

        self._trackio = trackio
        name = self.known_id or run.name.replace("/", "-")
        project = os.environ.get("TRACKIO_PROJECT", "rltrain")
        self._run = trackio.init(
            project,
            name=name,
            config=dict(run.config),  # also of a resumed run, whose settings Trackio writes anew
            resume="never" if self.known_id is None else "allow",
            embed=False,
            auto_log_cpu=False,
        )
        self.remember(name, "" if away else f"TRACKIO_DIR={place} trackio show --project {project}")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        self._run.log(dict(metrics), step=step)

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture."""
        self._run.log({tag: self._trackio.Image(image)}, step=step)

    def video(self, path: Path, step: int) -> None:
        """Adds a film."""
        self._run.log({"videos": self._trackio.Video(str(path))}, step=step)

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds a histogram of the finite values."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self._run.log({tag: self._trackio.Histogram(finite)}, step=step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text."""
        self._run.log({tag: self._trackio.Markdown(text)}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()

    def add_file(self, path: Path, kind: str) -> None:
        """Adds a file."""
        artifact = self._trackio.Artifact(f"{self._run.name}-{kind}", type=kind)
        artifact.add_file(str(path), path.name)
        self._run.log_artifact(artifact)

    def add_model(self, checkpoint: Path) -> None:
        """Adds a version of the model."""
        artifact = self._trackio.Artifact(f"{self._run.name}-model", type="model")
        for name, file in self.model_files(checkpoint).items():
            artifact.add_file(str(file), name)
        self._run.log_artifact(artifact)
