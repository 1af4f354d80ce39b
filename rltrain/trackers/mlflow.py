"""The metrics of a run in MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from rltrain.tracker import RunInfo
from rltrain.trackers.service import ServiceTracker

REGISTER = "RLTRAIN_MLFLOW_MODEL"
"""Environment variable: the registered model that every model becomes a version of; without it there is none."""
MOST_PARAMS, MOST_METRICS = 100, 1000  # of a call
MOST_LETTERS = 6000  # of a parameter


class MlflowTracker(ServiceTracker):
    """Writes a run of MLflow.

    Where ``MLFLOW_TRACKING_URI`` names no server or database, it is ``mlflow.db`` in the folder of all runs, with the
    artifacts beside it. The experiment is the environment, unless ``MLFLOW_EXPERIMENT_NAME`` names another. A run that
    ``MLFLOW_RUN_ID`` names, as in jobs of Azure ML, is written to, and ended by whoever began it.

    Args:
        run: The run.
    """

    service = "mlflow"

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._metric, self._param, self._refused = Metric, Param, MlflowException
        home = run.run_dir.parent.parent
        given = os.environ.get("MLFLOW_TRACKING_URI")
        uri = given or f"sqlite:///{home / 'mlflow.db'}"
        self._begun = os.environ.get("MLFLOW_RUN_ID")
        if self._begun is not None:
            self._client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI"))
            self.id = self._begun
            self.remember(self.id, uri)
            return
        env = run.config.get("env", {}).get("id", "rltrain")
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", env)
        with FileLock(home / ".mlflow.lock"):  # the first of several runs makes the tables
            self._client = MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI"))
            found = self._client.get_experiment_by_name(experiment)
            place = None if given else (home / "mlartifacts").as_uri()
            id = found.experiment_id if found else self._client.create_experiment(experiment, artifact_location=place)
        if self.known_id is None:
            tags = {"mlflow.note.content": run.title, "mlflow.source.name": "rltrain"}
            self.id = self._client.create_run(id, run_name=run.name, tags=tags).info.run_id
        else:
            self.id = self.known_id
            self._client.update_run(self.id, status="RUNNING")
        self.remember(self.id, given or f"mlflow ui --backend-store-uri {uri}")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        now = int(time.time() * 1000)
        points = [self._metric(tag, value, now, step) for tag, value in metrics.items()]
        for at in range(0, len(points), MOST_METRICS):
            self._client.log_batch(self.id, metrics=points[at : at + MOST_METRICS])

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture, as a file."""
        self._client.log_image(self.id, image, f"images/{tag}/{step:012}.png")

    def video(self, path: Path, step: int) -> None:
        """Adds a film."""
        self._client.log_artifact(self.id, str(path), "videos")

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds a histogram of the finite values, as numbers: MLflow draws none."""
        finite = values[np.isfinite(values)]
        if finite.size:
            counts, edges = np.histogram(finite, bins=64)
            content = {"counts": counts.tolist(), "edges": edges.tolist()}
            self._client.log_dict(self.id, content, f"histograms/{tag}/{step:012}.json")

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text, as a file."""
        self._client.log_text(self.id, text, f"texts/{tag}.md")

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Adds parameters. MLflow changes none that it has, so a resumed run adds those that are new."""
        known = self._client.get_run(self.id).data.params
        new = [self._param(name, str(value)[:MOST_LETTERS]) for name, value in values.items() if name not in known]
        for at in range(0, len(new), MOST_PARAMS):
            self._client.log_batch(self.id, params=new[at : at + MOST_PARAMS])

    def close(self) -> None:
        """Ends the run, unless somebody else began it; one that did not finish is marked as failed."""
        if self._begun is None:
            self._client.set_terminated(self.id, "FINISHED" if self.finished else "FAILED")

    def add_file(self, path: Path, kind: str) -> None:
        """Adds a file."""
        self._client.log_artifact(self.id, str(path), kind)

    def add_model(self, checkpoint: Path) -> None:
        """Adds the model, and a version of the registered model if one is named."""
        folder = f"models/{checkpoint.name}"
        for name, file in self.model_files(checkpoint).items():
            self._client.log_artifact(self.id, str(file), f"{folder}/{name}".rpartition("/")[0])
        if model := os.environ.get(REGISTER):
            try:
                self._client.create_registered_model(model)
            except self._refused as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            self._client.create_model_version(model, f"runs:/{self.id}/{folder}", self.id)
