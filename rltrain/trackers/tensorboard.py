"""The metrics of a run in TensorBoard: Scalars, Custom Scalars, Images, Histograms, Text and HParams."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    HistogramProto,
    Summary,
    SummaryMetadata,
)
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent
from tensorboard.plugins.histogram import metadata as histograms
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as images
from tensorboard.plugins.scalar import metadata as scalars
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.event_files import FILES, RecordFile, event_files
from rltrain.trackers.event_files import forget_after as _forget_after
from rltrain.trackers.films import animation
from rltrain.trackers.tags import description_of

BINS = 64
"""Of a histogram."""
FIRST = {
    "algo": "algo",
    "env.id": "env",
    "agent.learning_rate": "learning_rate",
    "num_envs": "num_envs",
    "seed": "seed",
}
"""The names of the five hyperparameters that HParams is to show: it shows those first that differ between runs, then by
the alphabet, and hides all but five. All others begin with ``settings.``, which comes behind these."""
RESUMED = "time/resumed"
CLASSES = {scalars: DATA_CLASS_SCALAR, images: DATA_CLASS_BLOB_SEQUENCE, histograms: DATA_CLASS_TENSOR}


class TensorBoardTracker(Tracker):
    """Writes TensorBoard event files into the run's folder.

    Scalars keep their tags, and have a description. The configuration is under Text, films are animated pictures, and
    hyperparameters are under HParams, beside the last value of every scalar. When a call returns, the system has its
    data: a killed process loses nothing.

    After a resume TensorBoard shows one curve. Points after the resumed step are removed from older event files,
    because TensorBoard's default reader ignores purges. A purge is still written before the new events, for a
    TensorBoard that has already read the old ones. If a tag is logged twice at one step, the first value is kept. The
    scalar ``time/resumed`` has a point at each resumed step.

    Args:
        run: The run. If it does not resume, new curves start.
    """

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        run_dir, resume_step = run.run_dir, run.resume_step
        self._step = resume_step or 0
        self._last = {} if resume_step is None else _forget_after(run_dir, resume_step)  # tag -> step of its last point
        self._writer = RecordWriter(RecordFile(_new_file(run_dir)))
        self._closed = False
        self._described: set[str] = set()  # tags whose description is in this file
        self._charts: dict[str, dict[str, list[str]]] = {}
        self._write(0, file_version="brain.Event:2")
        # Readers purge from this step on; but the first START that TensorBoard meets in a run does nothing.
        purge_step = 0 if resume_step is None else resume_step + 1
        self._write(purge_step, session_log=SessionLog(status=SessionLog.START))
        if resume_step is not None:
            self.log({RESUMED: 1.0}, resume_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        self._step = step
        points = [
            Summary.Value(tag=tag, simple_value=float(value), metadata=self._about(tag, scalars))
            for tag, value in metrics.items()
            if self._last.get(tag) != step
        ]
        if points:
            self._last.update(dict.fromkeys(metrics, step))
            self._write(step, summary=Summary(value=points))

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture, as PNG."""
        from PIL import Image

        png = BytesIO()
        Image.fromarray(image).save(png, "PNG")
        height, width, _ = image.shape
        self._picture(tag, png.getvalue(), width, height, step)

    def video(self, path: Path, step: int) -> None:
        """Adds a film as an animated GIF under Images; warns if it cannot be made one."""
        try:
            self._picture("eval/film", *animation(path), step)
        except (OSError, RuntimeError, ValueError) as error:
            warnings.warn(f"TensorBoard does not show the film of step {step:,}: {error}.", stacklevel=2)

    def _picture(self, tag: str, encoded: bytes, width: int, height: int, step: int) -> None:
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded)
        value = Summary.Value(tag=tag, image=picture, metadata=self._about(tag, images))
        self._write(step, summary=Summary(value=[value]))

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds a histogram of the finite values."""
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        if finite.size:
            counts, edges = np.histogram(finite, bins=BINS)
            histogram = HistogramProto(
                min=finite.min(),
                max=finite.max(),
                num=finite.size,
                sum=finite.sum(),
                sum_squares=finite @ finite,
                bucket_limit=edges[1:].tolist(),
                bucket=counts.tolist(),
            )
            value = Summary.Value(tag=tag, histo=histogram, metadata=self._about(tag, histograms))
            self._write(step, summary=Summary(value=[value]))

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text."""
        self._write(step, summary=text_pb(tag, text))

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Shows hyperparameters, see :data:`FIRST` for their names."""
        run_dir = self.run.run_dir
        named = {FIRST.get(name, f"settings.{name}"): value for name, value in values.items()}
        self._write(0, summary=hparams_pb(named, trial_id=f"{run_dir.name} in {run_dir.parent.name}"))

    def layout(self, charts: Mapping[str, Mapping[str, list[str]]]) -> None:
        """Draws the charts under Custom Scalars, with those of earlier calls."""
        for heading, group in charts.items():
            self._charts.setdefault(heading, {}).update(group)
        categories = [
            Category(
                title=heading,
                chart=[Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in group.items()],
            )
            for heading, group in self._charts.items()
        ]
        content = np.array(Layout(category=categories).SerializeToString(), dtype=np.object_)
        value = Summary.Value(
            tag=custom_scalars.CONFIG_SUMMARY_TAG,
            metadata=custom_scalars.create_summary_metadata(),
            tensor=make_tensor_proto(content),
        )
        self._write(0, summary=Summary(value=[value]))

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Adds the final metrics that were never logged, and marks the run as successful."""
        self.log({tag: value for tag, value in metrics.items() if tag not in self._last}, self._step)
        self._end(STATUS_SUCCESS)

    def close(self) -> None:
        """Closes the file; a run that did not finish is marked as failed."""
        self._end(STATUS_FAILURE)

    def _end(self, status: int) -> None:
        if not self._closed:
            self._closed = True
            self._write(self._step, summary=_session_end(status))
            self._writer.close()

    def _about(self, tag: str, plugin: Any) -> SummaryMetadata | None:
        """The description of a tag, the first time that it is written.

        TensorBoard's faster loader takes it only from metadata that name their plugin and class of data.
        """
        if tag in self._described:
            return None
        self._described.add(tag)
        text = description_of(tag, self.run.descriptions)
        if not text:
            return None
        about: SummaryMetadata = plugin.create_summary_metadata(display_name="", description=text)
        about.data_class = CLASSES[plugin]
        return about

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())


def _new_file(run_dir: Path) -> Path:
    """A new event file whose name sorts after those in the folder, even if the clock was set back."""
    last = max(event_files(run_dir).values(), default=0)
    return run_dir / f"{FILES}{max(int(time.time()), last + 1):010d}.{socket.gethostname()}.{os.getpid()}"


def _session_end(status: int) -> Summary:
    data = HParamsPluginData(session_end_info=SessionEndInfo(status=status, end_time_secs=time.time()))
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])
