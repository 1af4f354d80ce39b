"""Reads the log of a served policy's decisions back, as episodes; see :mod:`rltrain.recording.decision_log`."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, leaves_of, shape_of
from rltrain.errors import CheckpointError, DatasetError
from rltrain.recording.decision_log import FORMAT, PATTERN
from rltrain.spaces import from_json
from rltrain.storage.files import MIB, Damaged, check_folder, open_file, reason
from rltrain.storage.records import parse_json

LINE_BYTES = 64 * MIB
IDLE_SECONDS = 3600.0
"""An episode of which nothing came for so long is over, unless another time is given."""


@dataclass
class _Decision:
    t: float
    obs: dict[str, np.ndarray]
    action: np.ndarray
    reward: float = math.nan


@dataclass
class Episode:
    """Decisions that followed each other.

    Attributes:
        model: The policy that made them.
        decisions: What was observed, done and earned, step by step.
        final: The last observation, if it was sent.
        terminated: Whether it ended by itself.
        ended: When it ended, in seconds since 1970.
    """

    model: str
    decisions: list[_Decision] = field(default_factory=list)
    final: dict[str, np.ndarray] | None = None
    terminated: bool = False
    ended: float = math.inf

    @property
    def complete(self) -> bool:
        """Whether the rewards of all decisions are known."""
        return not any(math.isnan(each.reward) for each in self.decisions)


@dataclass
class _Process:
    """What one process has logged: all its episodes, those by name that go on, and the place of every decision."""

    episodes: list[Episode] = field(default_factory=list)
    running: dict[str, Episode] = field(default_factory=dict)
    places: dict[str, tuple[Episode, int]] = field(default_factory=dict)


class DecisionReader:
    """The episodes in a folder of logs.

    Args:
        folder: The folder.
        idle: Seconds after its last decision from which an episode is over that nobody has ended.

    Attributes:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        env: The environment that the policies were trained in; empty if not known.

    Raises:
        DatasetError: There is no log, one was changed, or they are of different environments.
    """

    def __init__(self, folder: str | Path, *, idle: float = IDLE_SECONDS) -> None:
        self.folder, self.idle = Path(folder), idle
        try:
            check_folder(self.folder)
            named = [(PATTERN.fullmatch(path.name), path) for path in self.folder.iterdir()]
        except OSError as error:
            raise DatasetError(
                f"'{folder}' cannot be read: {reason(error)}.", "Name the folder of 'rltrain serve --log-decisions'."
            ) from error
        files = sorted((match[1], int(match[2]), path) for match, path in named if match is not None)
        if not files:
            raise DatasetError(
                f"There is no log of decisions in '{folder}'.", "'rltrain serve MODEL --log-decisions DIR' writes one."
            )
        self._files: dict[str, list[Path]] = defaultdict(list)  # of each process, in order
        for token, _, path in files:
            self._files[token].append(path)
        first: dict[str, Any] | None = None
        for _, _, path in files:
            head = next(self._lines(path), (0, {}))[1]
            if not head:  # killed before it wrote a line
                continue
            first = first or head
            for name in ("observation_space", "action_space"):
                if head.get(name) != first.get(name):
                    raise DatasetError(
                        f"'{path}' is of another environment than '{files[0][2]}': their {name} differ.",
                        "Keep one folder for each environment.",
                    )
        try:
            if first is None:
                raise KeyError("a first line")
            self.observation_space = from_json(first["observation_space"])
            self.action_space = from_json(first["action_space"])
        except (CheckpointError, KeyError, TypeError) as error:
            raise DatasetError(f"'{files[0][2]}' does not say of which spaces it is.", "Take it out.") from error
        self.env = str(first.get("env", ""))
        self._seen, self._act = leaves_of(self.observation_space, OBS), leaves_of(self.action_space, ACTION)

    def episodes(self, after: float = -math.inf, before: float | None = None) -> list[Episode]:
        """The episodes that are over, by the time of their end.

        Args:
            after: Those that ended at this time (seconds since 1970) or before are left out.
            before: Those that ended after this time are left out; now by default.
        """
        before = time.time() if before is None else before
        found: list[Episode] = []
        for files in self._files.values():
            found += self._of_process(files)
        for each in found:
            each.ended = min(each.ended, each.decisions[-1].t + self.idle)
        chosen = [each for each in found if after < each.ended <= before]
        return sorted(chosen, key=lambda each: each.ended)

    def _of_process(self, files: list[Path]) -> list[Episode]:
        process = _Process()
        for path in files:
            lines = self._lines(path)
            model = str(next(lines, (0, {}))[1].get("model", "unknown"))
            for number, line in lines:
                try:
                    self._take(line, model, process)
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                    raise _broken(path, number, what) from error
        return process.episodes

    def _take(self, line: dict[str, Any], model: str, process: _Process) -> None:
        t = float(line["t"])
        if "id" in line:
            decision = _Decision(t, self._values(line["obs"], self._seen), self._action(line["action"]))
            name = line.get("episode")
            episode = None if name is None else process.running.get(name)
            if episode is None:
                episode = Episode(model)
                process.episodes.append(episode)
                if name is not None:
                    process.running[name] = episode
            process.places[str(line["id"])] = episode, len(episode.decisions)
            episode.decisions.append(decision)
        elif "end" in line:
            if (episode := process.running.pop(line["end"], None)) is not None:
                episode.ended = t
        elif (known := process.places.get(str(line["of"]))) is not None:
            episode, at = known
            if "reward" in line:
                episode.decisions[at].reward = float(line["reward"])
            if line.get("terminated") or line.get("truncated"):
                if at + 1 != len(episode.decisions):
                    raise ValueError("an episode has decisions after its end")
                episode.ended, episode.terminated = t, bool(line.get("terminated"))
                if "final" in line:
                    episode.final = self._values(line["final"], self._seen)
                for name in [name for name, each in process.running.items() if each is episode]:
                    del process.running[name]

    def _values(self, given: dict[str, Any], leaves: dict[str, spaces.Space]) -> dict[str, np.ndarray]:
        return {name: _array(given[name], leaf) for name, leaf in leaves.items()}

    def _action(self, given: Any) -> np.ndarray:
        return _array(given, self._act[ACTION])

    def _lines(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """The whole lines of a file, with their numbers; half a line at the end is left out."""
        try:
            with open_file(path) as file:
                for number, line in enumerate(_split(file), 1):
                    data = parse_json(line)
                    if number == 1 and data.get("format") != FORMAT:
                        raise Damaged(f"it is of another format than {FORMAT}")
                    yield number, data
        except (OSError, Damaged) as error:
            raise DatasetError(f"'{path}' cannot be used: {reason(error)}.", "Take it out of the folder.") from error


def _array(given: Any, leaf: spaces.Space) -> np.ndarray:
    """A value of a space in its type and shape."""
    array = np.asarray(given, leaf.dtype or np.int64)
    if array.shape != shape_of(leaf):
        raise ValueError(f"a value has the shape {array.shape} where its space has {shape_of(leaf)}")
    return array


def _split(file: BufferedReader) -> Iterator[bytes]:
    while line := file.readline(LINE_BYTES + 1):
        if len(line) > LINE_BYTES:
            raise Damaged(f"a line has more than {LINE_BYTES:,} bytes")
        if not line.endswith(b"\n"):
            return
        yield line


def _broken(path: Path, number: int, what: str) -> DatasetError:
    return DatasetError(f"Line {number} of '{path}' cannot be used: {what}.", "Take the file out of the folder.")
