"""All trackers of a run as one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rltrain.plugins import TrackerSpec, path_of, resolve, trackers
from rltrain.rng import global_kept
from rltrain.schedules import LINEAR
from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.process import ProcessTracker
from rltrain.trackers.tags import charts_of

FAILURES = (Exception, SystemExit)


class TrackerList(Tracker):
    """Calls every tracker of a run; does nothing if there are none.

    If a tracker fails, in its constructor or in any call, a warning names it and it is left out from then on. Calls do
    not change the state of the process's global generators.

    Args:
        run: The run.
        names: The trackers to make, by registered name.
    """

    def __init__(self, run: RunInfo, names: Sequence[str] = ()) -> None:
        super().__init__(run)
        self._all: dict[str, Tracker] = {}
        for name in names:
            try:
                with global_kept():  # some libraries draw when they are imported
                    self._all[name] = _make(trackers.find(name), replace(run, config=deepcopy(run.config)))
            except FAILURES as error:
                _warn(name, error)
        self.hparams(flatten({name: value for name, value in run.config.items() if name != "health"}))
        self.text("config", f"```yaml\n{yaml.safe_dump(dict(run.config), sort_keys=False)}```", 0)
        if "algo" in run.config:
            self.layout(charts_of(run.config["algo"]))

    def __contains__(self, name: str) -> bool:
        """Whether a tracker is in use."""
        return name in self._all

    def takes(self, method: str) -> bool:
        """Whether a tracker does anything with what it is told by a method."""
        return any(getattr(type(tracker), method) is not getattr(Tracker, method) for tracker in self._all.values())

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Hands over metrics, to each tracker a dict of its own."""
        self._tell("log", lambda: (dict(metrics), step))

    def advance(self, step: int) -> None:
        """Hands over the steps so far."""
        self._tell("advance", lambda: (step,))

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Hands over a picture."""
        self._tell("image", lambda: (tag, image, step))

    def video(self, path: Path, step: int) -> None:
        """Hands over a film."""
        self._tell("video", lambda: (path, step))

    def artifact(self, path: Path, kind: str) -> None:
        """Hands over a file or folder."""
        self._tell("artifact", lambda: (path, kind))

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Hands over numbers whose distribution is shown."""
        self._tell("histogram", lambda: (tag, values, step))

    def text(self, tag: str, text: str, step: int) -> None:
        """Hands over a text."""
        self._tell("text", lambda: (tag, text, step))

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Hands over hyperparameters."""
        self._tell("hparams", lambda: (dict(values),))

    def layout(self, charts: Mapping[str, Mapping[str, list[str]]]) -> None:
        """Hands over charts."""
        self._tell("layout", lambda: (charts,))

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Hands over the final metrics."""
        self._tell("finish", lambda: (dict(metrics),))

    def close(self) -> None:
        """Closes all trackers and removes them from the list."""
        self._tell("close", tuple)
        self._all.clear()

    def _tell(self, method: str, arguments: Any) -> None:
        if not self._all:
            return
        with global_kept():
            for name, tracker in list(self._all.items()):
                try:
                    getattr(tracker, method)(*arguments())
                except FAILURES as error:
                    _warn(name, error)
                    del self._all[name]
                    if method != "close":
                        with suppress(*FAILURES):
                            tracker.close()


def _make(spec: TrackerSpec, run: RunInfo) -> Tracker:
    """A tracker, here or in a process of its own."""
    if spec.own_process:
        return ProcessTracker(run, spec.name, path_of(spec.entry_point))
    tracker: Tracker = resolve(spec.entry_point)(run)
    return tracker


def displays(names: Sequence[str]) -> list[str]:
    """The names of those trackers that show progress to a person who waits for it."""
    return [name for name in names if name in trackers and trackers[name].display]


def _warn(name: str, error: BaseException) -> None:
    what = str(error) or "no reason given"
    warnings.warn(
        f"The tracker '{name}' failed and is left out from here on. {type(error).__name__}: {what}", stacklevel=4
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """Hyperparameters by dotted name, in types that trackers can list; None is left out.

    A schedule ``lin_0.001`` is the number 0.001, with ``linear`` under its name and ``.schedule``.
    """
    flat: dict[str, bool | float | str] = {}
    for key, value in config.items():
        if isinstance(value, str) and (number := _start_of(value)) is not None:
            flat |= {f"{prefix}{key}": number, f"{prefix}{key}.schedule": "linear"}
            continue
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float)) and math.isfinite(value):  # HParams breaks on NaN and infinity
            flat[f"{prefix}{key}"] = value
        elif value is not None:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def _start_of(value: str) -> float | None:
    """The number that a linear schedule starts from; None for other text."""
    with suppress(ValueError):
        number = float(value.removeprefix(LINEAR))
        return number if value.startswith(LINEAR) and math.isfinite(number) else None
    return None
