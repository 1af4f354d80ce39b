"""Trackers for the tests of trackers in processes of their own, which import them from here."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rltrain.tracker import RunInfo, Tracker

METHODS = ("log", "image", "video", "artifact", "histogram", "text", "hparams", "layout", "finish", "close")


class Note(Tracker):
    """Writes down what it is told."""

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run)
        self._file = (run.run_dir / "told.jsonl").open("a")
        self._note("start", run.resume_step, run.title, run.config, os.getpid())

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._note("log", metrics, step)

    def _note(self, method: str, *arguments: Any) -> None:
        plain = [
            {"sum": float(x.sum()), "shape": x.shape, "type": str(x.dtype)} if isinstance(x, np.ndarray) else x
            for x in arguments
        ]
        self._file.write(json.dumps([method, *plain], default=str) + "\n")
        self._file.flush()


for _name in METHODS[1:]:
    setattr(Note, _name, lambda self, *arguments, _name=_name: self._note(_name, *arguments))


class Broken(Note):
    """Fails at the third number."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        super().log(metrics, step)
        if step >= 3:
            raise ConnectionError("nobody answers")


class Slow(Note):
    """Takes its time over everything."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        time.sleep(5)


class Dies(Note):
    """Takes its process down."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        os._exit(7)


class Chatty(Note):
    """Prints, and asks for what no one answers."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        print("hello" * 1000, flush=True)
        os.write(1, b"hello from C\n")
        super().log(metrics, step)


def told(run_dir: Path, method: str = "") -> list[list[Any]]:
    """What a tracker was told, or what it was told by one method."""
    lines = [json.loads(line) for line in (run_dir / "told.jsonl").read_text().splitlines()]
    return [line for line in lines if line[0].startswith(method)]
