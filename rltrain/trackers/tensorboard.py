"""The metrics of a run in TensorBoard: Scalars, Text and HParams."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.plugins.custom_scalar import metadata as custom_scalars
from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, Layout, MultilineChartContent
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.event_files import FILES, RecordFile, event_files
from rltrain.trackers.event_files import forget_after as _forget_after

BINS = 64
"""Of a histogram."""


class TensorBoardTracker(Tracker):
    """Writes TensorBoard event files into the run's folder.

    Scalars keep their tags. The configuration is under Text, and hyperparameters are under HParams, beside the last
    value of every scalar. When a call returns, the system has its data: a killed process loses nothing.

    After a resume TensorBoard shows one curve. Points after the resumed step are removed from older event files,
    because TensorBoard's default reader ignores purges. A purge is still written before the new events, for a
    TensorBoard that has already read the old ones. If a tag is logged twice at one step, the first value is kept.

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
        self._write(0, file_version="brain.Event:2")
        # Readers purge from this step on; but the first START that TensorBoard meets in a run does nothing.
        purge_step = 0 if resume_step is None else resume_step + 1
        self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds a point to each metric's curve."""
        self._step = step
        points = [
            Summary.Value(tag=tag, simple_value=float(value))
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
        height, width, channels = image.shape
        picture = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png.getvalue())
        self._write(step, summary=Summary(value=[Summary.Value(tag=tag, image=picture)]))

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
            self._write(step, summary=Summary(value=[Summary.Value(tag=tag, histo=histogram)]))

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text."""
        self._write(step, summary=text_pb(tag, text))

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Shows hyperparameters."""
        run_dir = self.run.run_dir
        self._write(0, summary=hparams_pb(dict(values), trial_id=f"{run_dir.name} in {run_dir.parent.name}"))

    def layout(self, charts: Mapping[str, Mapping[str, list[str]]]) -> None:
        """Draws the charts under Custom Scalars."""
        categories = [
            Category(
                title=heading,
                chart=[Chart(title=title, multiline=MultilineChartContent(tag=tags)) for title, tags in group.items()],
            )
            for heading, group in charts.items()
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
