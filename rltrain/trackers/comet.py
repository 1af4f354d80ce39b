"""The metrics of a run in Comet."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rltrain.tracker import RunInfo
from rltrain.trackers.service import ServiceTracker


class CometTracker(ServiceTracker):
    """Writes an experiment of Comet.

    Its own environment variables and settings hold: ``COMET_API_KEY``, ``COMET_PROJECT_NAME`` (``rltrain`` by default),
    ``COMET_WORKSPACE`` and so on. Without a key of the service, and where it cannot be reached, the experiment becomes
    an archive in the run folder, for ``comet upload``.

    Args:
        run: The run.
    """

    service = "comet"

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        import comet_ml

        config = comet_ml.get_config()
        folder = run.run_dir / "comet"
        folder.mkdir(exist_ok=True)
        experiment_config = comet_ml.ExperimentConfig(
            **dict.fromkeys(("log_code", "log_graph", "parse_args", "log_git_metadata", "log_git_patch"), False),
            auto_output_logging=False,
            auto_param_logging=False,
            auto_metric_logging=False,
            display_summary_level=0,
            offline_directory=str(folder),
            name=run.name,
        )
        id = self.known_id or secrets.token_hex(16)
        options: dict[str, Any] = {
            "experiment_key": id,
            "project_name": config["comet.project_name"] or "rltrain",
            "experiment_config": experiment_config,
        }
        again = self.known_id is not None
        self._experiment: Any = None
        if config["comet.api_key"] and os.environ.get("COMET_START_ONLINE", "1").lower() not in ("0", "false"):
            try:
                self._experiment = comet_ml.start(online=True, mode="get" if again else "create", **options)
            except Exception:  # there is no network, or the key is wrong
                self._experiment = None
        if self._experiment is None:
            self._experiment = comet_ml.start(online=False, mode="get" if again else "create", **options)
            self.remember(id, f"comet upload {folder}/*.zip")
        else:
            self.remember(id, self._experiment.url or "")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        self._experiment.log_metrics(dict(metrics), step=step)

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture."""
        self._experiment.log_image(image, name=tag, step=step)

    def video(self, path: Path, step: int) -> None:
        """Adds a film."""
        self._experiment.log_video(str(path), name=path.name, step=step)

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds a histogram of the finite values."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self._experiment.log_histogram_3d(finite, name=tag, step=step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text."""
        self._experiment.log_text(text, step=step, metadata={"tag": tag})

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Adds parameters."""
        self._experiment.log_parameters(dict(values))

    def close(self) -> None:
        """Ends the experiment; one that did not finish is marked as such."""
        self._experiment.log_other("finished", self.finished)
        self._experiment.end()

    def add_file(self, path: Path, kind: str) -> None:
        """Adds a file; pictures are shown."""
        if path.suffix == ".png":
            self._experiment.log_image(str(path), name=kind)
        else:
            self._experiment.log_asset(str(path), file_name=path.name)

    def add_model(self, checkpoint: Path) -> None:
        """Adds a model."""
        for name, file in self.model_files(checkpoint).items():
            self._experiment.log_model(checkpoint.name, str(file), file_name=name)
