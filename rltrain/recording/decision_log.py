"""The log of a served policy's decisions: lines of JSON in files that only grow, for their owner alone.

A file begins with a line about the policy and its spaces. After it come, each with its time ``t`` in seconds:

    {"t": ..., "id": "5f0c-12", "episode": "abc", "obs": {"obs": [...]}, "action": 1}     a decision
    {"t": ..., "of": "5f0c-12", "reward": 1.0, "terminated": true, "final": {"obs": [...]}}    what came of it
    {"t": ..., "end": "abc"}                                                                an episode was left

A line is written by one call of the system, so whatever kills the process leaves whole lines, and perhaps half of a
last one. :mod:`rltrain.recording.decisions` makes datasets of them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, leaves_of
from rltrain.errors import ConfigError
from rltrain.spaces import to_json
from rltrain.storage.files import MIB, check_folder, open_new, reason

FORMAT = 1
PATTERN = re.compile(r"decisions_([0-9a-f]{8})_(\d{4,8})\.jsonl")
FILE_BYTES = 64 * MIB
"""Bytes after which a new file begins."""
LIMIT = 256 * MIB
"""Bytes of all files after which nothing more is logged, unless another limit is given."""


class DecisionLog:
    """Writes a log. What cannot be written is counted and costs one warning; it never fails a request.

    Args:
        folder: Where; it is made, for its owner alone.
        model: The policy: its name and version.
        env: The environment that it was trained in; empty if not known.
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        limit: Bytes of all files in the folder after which nothing more is logged.
        clock: The time in seconds.

    Raises:
        ConfigError: The folder cannot be written, or the spaces have no place in a dataset.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str,
        env: str,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        seen, acted = leaves_of(observation_space, OBS), leaves_of(action_space, ACTION)
        if list(acted) != [ACTION] or any(isinstance(leaf, spaces.Text) for leaf in seen.values()):
            raise ConfigError(
                "Observations with text, and actions that are a Dict or Tuple, are not logged.",
                "Leave --log-decisions out.",
            )
        self.folder, self.lost = Path(folder), 0
        self._limit, self._clock, self._token = limit, clock, secrets.token_hex(4)
        self._number = self._files = 0
        self._handle: int | None = None
        self._size = 0  # of the open file
        self._head = {
            "format": FORMAT,
            "model": model,
            "env": env,
            "observation_space": to_json(observation_space),
            "action_space": to_json(action_space),
        }
        try:
            check_folder(self.folder)
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            there = [path for path in self.folder.iterdir() if PATTERN.fullmatch(path.name)]
            self._total = sum(path.lstat().st_size for path in there)
            self._tokens = {path.name[10:18] for path in there} | {self._token}
            self._begin()
        except OSError as error:
            raise ConfigError(
                f"'{folder}' cannot hold a log: {reason(error)}.", "Name another folder: --log-decisions DIR."
            ) from error

    def add(self, inputs: Mapping[str, np.ndarray], actions: np.ndarray, episode: str | None = None) -> list[str]:
        """Logs N decisions.

        Args:
            inputs: (N, ...) the parts of the observations by name.
            actions: (N, *A) the environment's own actions.
            episode: The episode, of a single decision; None where each stands for itself.

        Returns:
            An id for each.
        """
        lines, ids = [], []
        for row, action in enumerate(actions):
            ids.append(f"{self._token}-{self._number}")
            self._number += 1
            seen = {name: array[row].tolist() for name, array in inputs.items()}
            line = {"t": self._clock(), "id": ids[-1], "obs": seen, "action": action.tolist()}
            lines.append(line if episode is None else {**line, "episode": episode})
        self._write(lines)
        return ids

    def knows(self, decision: str) -> bool:
        """Whether there may have been a decision with this id: of this process, or of one before it."""
        token, _, number = decision.partition("-")
        if not (token in self._tokens and number.isascii() and number.isdigit() and len(number) < 16):
            return False
        return token != self._token or int(number) < self._number

    def feedback(
        self,
        decision: str,
        reward: float | None,
        *,
        terminated: bool = False,
        truncated: bool = False,
        final: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Logs what came of a decision. Of several for one decision the last one counts.

        Args:
            decision: Its id.
            reward: The reward; None if it says only that the episode is over.
            terminated: Whether the episode ended with it.
            truncated: Whether the episode was cut off after it.
            final: (1, ...) the parts of the last observation, where the episode is over.
        """
        line: dict[str, Any] = {"t": self._clock(), "of": decision}
        if reward is not None:
            line["reward"] = reward
        line |= {name: True for name, flag in (("terminated", terminated), ("truncated", truncated)) if flag}
        if final is not None:
            line["final"] = {name: array[0].tolist() for name, array in final.items()}
        self._write([line])

    def end(self, episode: str) -> None:
        """Logs that an episode was left."""
        self._write([{"t": self._clock(), "end": episode}])

    def close(self) -> None:
        """Closes the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _write(self, lines: list[dict[str, Any]]) -> None:
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
        try:
            if self._total + len(text) > self._limit:
                raise OSError(0, f"its files have {self._limit:,} bytes, and no more are allowed")
            if self._size + len(text) > FILE_BYTES:
                self._begin()
            self._put(text)
        except OSError as error:
            if not self.lost:
                warnings.warn(
                    f"Decisions are no longer logged in '{self.folder}': {reason(error)}. The service goes on.",
                    stacklevel=2,
                )
            self.lost += len(lines)

    def _begin(self) -> None:
        self.close()
        self._handle = open_new(self.folder / f"decisions_{self._token}_{self._files:04}.jsonl", 0o600)
        self._files, self._size = self._files + 1, 0
        self._put((json.dumps({**self._head, "t": self._clock()}) + "\n").encode())

    def _put(self, text: bytes) -> None:
        """Appends; half a line that a full disk has left is taken back."""
        if self._handle is None:
            raise OSError(0, "the log is closed")
        written = os.write(self._handle, text)
        if written < len(text):
            os.ftruncate(self._handle, self._size)
            os.lseek(self._handle, self._size, os.SEEK_SET)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        self._total += written
