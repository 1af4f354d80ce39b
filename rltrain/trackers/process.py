"""Runs a tracker in a process of its own, so that a slow, broken or unreachable service costs training nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rltrain.errors import RunError
from rltrain.process.telemetry import NO_TELEMETRY
from rltrain.storage.files import MIB
from rltrain.tracker import RunInfo, Tracker

WAITING_LIMIT = 256 * MIB
"""Bytes that may wait for a tracker that does not keep up; beyond it the tracker is left out."""
CLOSE_SECONDS = 30.0
"""How long the end of a run waits for a tracker. Whatever it still has to send is sent after that."""
WORKER = "rltrain.trackers.worker"


class ProcessTracker(Tracker):
    """A tracker whose calls are carried out by another process.

    Calls return at once: a thread writes them to the process. A failure there is raised by the next call here. If this
    process is killed, the other one notices, closes the tracker, and ends.

    Args:
        run: The run.
        name: The tracker's name, for messages.
        entry_point: ``module:Class`` of the tracker, which the other process imports.
    """

    def __init__(self, run: RunInfo, name: str, entry_point: str) -> None:
        super().__init__(run)
        self._name = name
        self._error: str | None = None
        self._closed = self._said_goodbye = False
        self._waiting = 0  # bytes that are not written to the process yet
        self._lock = threading.Lock()
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER, entry_point],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **NO_TELEMETRY, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for the run, which then closes its trackers
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._writer = _thread(self._write, self._process.stdin)
        self._reader = _thread(self._read, self._process.stdout)
        facts = {**asdict(run), "run_dir": str(run.run_dir.absolute())}
        self._send("start", facts)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._send("log", {tag: float(value) for tag, value in metrics.items()}, step)

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        self._send("image", tag, image, step)

    def video(self, path: Path, step: int) -> None:
        self._send("video", path, step)

    def artifact(self, path: Path, kind: str) -> None:
        self._send("artifact", path, kind)

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        self._send("histogram", tag, values, step)

    def text(self, tag: str, text: str, step: int) -> None:
        self._send("text", tag, text, step)

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        self._send("hparams", dict(values))

    def layout(self, charts: Mapping[str, Mapping[str, list[str]]]) -> None:
        self._send("layout", {heading: dict(group) for heading, group in charts.items()})

    def finish(self, metrics: Mapping[str, float]) -> None:
        self._send("finish", {tag: float(value) for tag, value in metrics.items()})

    def close(self) -> None:
        """Waits until everything is written, but not for long; a process that is still sending is left to it.

        Raises:
            RunError: The tracker has failed.
        """
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_SECONDS if self._error is None else 1.0)
        if self._error is not None:
            self._process.kill()
            self._process.wait()
            self._raise()
        if self._process.poll() is None:
            warnings.warn(
                f"The tracker '{self._name}' is still sending after {CLOSE_SECONDS:.0f} s. Its process "
                f"{self._process.pid} goes on with that in the background.",
                stacklevel=2,
            )
            return
        self._reader.join()
        self._raise()

    def _send(self, method: str, *arguments: Any) -> None:
        """Queues a call.

        Raises:
            RunError: The tracker has failed, or does not keep up.
        """
        self._raise()
        message = pack(method, arguments)
        with self._lock:
            self._waiting += len(message)
            waiting = self._waiting
        if waiting > WAITING_LIMIT:
            self._error = f"It does not keep up: more than {WAITING_LIMIT // MIB} MiB wait to be sent."
            self._raise()
        self._queue.put(message)

    def _raise(self) -> None:
        if self._error is not None:
            raise RunError(self._error)

    def _write(self, stream: IO[bytes]) -> None:
        """Writes queued calls to the process until there are no more."""
        with suppress(OSError), stream:
            while (message := self._queue.get()) is not None:
                stream.write(message)
                stream.flush()
                with self._lock:
                    self._waiting -= len(message)

    def _read(self, stream: IO[bytes]) -> None:
        """Waits for the process to say how it ended."""
        with stream:
            last = stream.read(MIB).decode(errors="replace").strip()
        code = self._process.wait()
        if last != "done":
            self._error = last or f"Its process ended with exit code {code}."


def _thread(target: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread


def pack(method: str, arguments: tuple[Any, ...]) -> bytes:
    """A call as bytes: a line of JSON, and after it the content of the arrays among the arguments."""
    listed: list[Any] = []
    arrays: list[bytes] = []
    for argument in arguments:
        if isinstance(argument, Path):
            listed.append({"path": str(argument.absolute())})
        elif isinstance(argument, np.ndarray):
            arrays.append(np.ascontiguousarray(argument).tobytes())
            listed.append({"array": argument.dtype.str, "shape": argument.shape})
        else:
            listed.append({"plain": argument})
    return json.dumps([method, listed]).encode() + b"\n" + b"".join(arrays)


def unpack(stream: IO[bytes]) -> tuple[str, list[Any]] | None:
    """The next call from a stream; None at its end, also in the middle of a call."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    method, listed = json.loads(line)
    arguments: list[Any] = []
    for each in listed:
        if "path" in each:
            arguments.append(Path(each["path"]))
        elif "array" in each:
            dtype, shape = np.dtype(each["array"]), tuple(each["shape"])
            content = stream.read(dtype.itemsize * int(np.prod(shape)))
            arguments.append(np.frombuffer(content, dtype).reshape(shape))
        else:
            arguments.append(each["plain"])
    return method, arguments
