"""Makes a dataset of the decisions that a served policy has logged; see :mod:`rltrain.recording.decision_log`."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from rltrain.data.card import DatasetCard, size_category
from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED, leaves_of, shape_of
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
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
class _Episode:
    model: str
    decisions: list[_Decision] = field(default_factory=list)
    final: dict[str, np.ndarray] | None = None
    terminated: bool = False
    ended: float = math.inf  # seconds

    @property
    def complete(self) -> bool:
        """Whether the rewards of all decisions are known."""
        return not any(math.isnan(each.reward) for each in self.decisions)


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

    def episodes(self, after: float = -math.inf, before: float | None = None) -> list[_Episode]:
        """The episodes that are over, by the time of their end.

        Args:
            after: Those that ended at this time (seconds since 1970) or before are left out.
            before: Those that ended after this time are left out; now by default.
        """
        before = time.time() if before is None else before
        found: list[_Episode] = []
        for files in self._files.values():
            found += self._of_process(files)
        for each in found:
            each.ended = min(each.ended, each.decisions[-1].t + self.idle)
        chosen = [each for each in found if after < each.ended <= before]
        return sorted(chosen, key=lambda each: each.ended)

    def _of_process(self, files: list[Path]) -> list[_Episode]:
        found: list[_Episode] = []
        running: dict[str, _Episode] = {}
        of_decision: dict[str, tuple[_Episode, int]] = {}
        for path in files:
            lines = self._lines(path)
            model = str(next(lines, (0, {}))[1].get("model", "unknown"))
            for number, line in lines:
                try:
                    self._take(line, model, found, running, of_decision)
                except (KeyError, TypeError, ValueError, OverflowError) as error:
                    what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                    raise _broken(path, number, what) from error
        return found

    def _take(
        self,
        line: dict[str, Any],
        model: str,
        found: list[_Episode],
        running: dict[str, _Episode],
        of_decision: dict[str, tuple[_Episode, int]],
    ) -> None:
        t = float(line["t"])
        if "id" in line:
            decision = _Decision(t, self._values(line["obs"], self._seen), self._action(line["action"]))
            name = line.get("episode")
            episode = None if name is None else running.get(name)
            if episode is None:
                episode = _Episode(model)
                found.append(episode)
                if name is not None:
                    running[name] = episode
            of_decision[str(line["id"])] = episode, len(episode.decisions)
            episode.decisions.append(decision)
        elif "end" in line:
            if (episode := running.pop(line["end"], None)) is not None:
                episode.ended = t
        elif (known := of_decision.get(str(line["of"]))) is not None:
            episode, at = known
            if "reward" in line:
                episode.decisions[at].reward = float(line["reward"])
            if line.get("terminated") or line.get("truncated"):
                if at + 1 != len(episode.decisions):
                    raise ValueError("an episode has decisions after its end")
                episode.ended, episode.terminated = t, bool(line.get("terminated"))
                if "final" in line:
                    episode.final = self._values(line["final"], self._seen)
                for name in [name for name, each in running.items() if each is episode]:
                    del running[name]

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


def import_decisions(
    folder: str | Path,
    out: str | Path,
    *,
    after: float = -math.inf,
    before: float | None = None,
    missing_reward: Literal["drop", "zero"] = "drop",
    idle: float = IDLE_SECONDS,
    name: str = "",
    reader: DecisionReader | None = None,
    model: str | None = None,
) -> tuple[Dataset, int]:
    """Makes a dataset of the episodes in a folder of logs that are over.

    Args:
        folder: The folder that ``rltrain serve --log-decisions`` wrote.
        out: The folder to make.
        after: Episodes that ended at this time (seconds since 1970) or before are left out.
        before: Those that ended after this time are left out; now by default.
        missing_reward: Whether episodes in which rewards are missing are left out, or count as 0 there.
        idle: Seconds after its last decision from which an episode is over that nobody has ended.
        name: The dataset's name; that of the folder by default.
        reader: A reader of the folder, if there is one already.
        model: The policy whose episodes are taken; None for all.

    Returns:
        The dataset, and how many episodes were left out because rewards are missing.

    Raises:
        DatasetError: There is no log, no episode is over, or ``out`` is there already.
    """
    reader = reader or DecisionReader(folder, idle=idle)
    over = [each for each in reader.episodes(after, before) if model in (None, each.model)]
    kept = over if missing_reward == "zero" else [each for each in over if each.complete]
    if not kept:
        raise nothing_to_take(folder, len(over))
    policies = list(dict.fromkeys(each.model for each in kept))
    env = reader.env
    card = DatasetCard(
        pretty_name=name or Path(out).name,
        annotations_creators=["machine-generated"],
        source_data=f"Decisions that {', '.join(policies)} made in use{f', trained in {env}' if env else ''}; from "
        f"the logs of rltrain serve.{' Rewards that are not known are 0.' if missing_reward == 'zero' else ''}",
    )
    with DatasetWriter(
        out,
        reader.observation_space,
        reader.action_space,
        name=name,
        environment={"id": env, "options": {}} if env else None,
        policies=[{"name": each} for each in policies],
        how="logged in use",
        facts={"missing_reward": missing_reward, "rewards_missing": sum(not each.complete for each in kept)},
        card=card,
    ) as writer:
        for each in kept:
            _add(writer, each, policies.index(each.model))
        card.size_categories = [size_category(writer.steps)]
    return Dataset.open(out), len(over) - len(kept)


def nothing_to_take(folder: str | Path, incomplete: int) -> DatasetError:
    """The error where there is no episode to take."""
    if incomplete:
        return DatasetError(
            f"Rewards are missing in all {incomplete:,} episodes of '{folder}' that are over.",
            "Send them to POST /feedback, or count them as 0: --missing-reward zero.",
        )
    return DatasetError(
        f"No episode of '{folder}' is over.", "End them by POST /feedback, or wait until they are idle."
    )


def _add(writer: DatasetWriter, episode: _Episode, policy: int) -> None:
    steps = episode.decisions
    columns = {name: np.stack([each.obs[name] for each in steps]) for name in steps[0].obs}
    final = episode.final or {name: array[-1] for name, array in columns.items()}
    last = np.arange(len(steps)) == len(steps) - 1
    rest = {
        ACTION: np.stack([each.action for each in steps]),
        REWARD: np.nan_to_num(np.array([each.reward for each in steps], np.float32), nan=0.0),
        TERMINATED: last & episode.terminated,
        TRUNCATED: last & (not episode.terminated),
    }
    finals = {name: array[None] for name, array in final.items()}
    writer.add({**columns, **rest}, [len(steps)], finals, policies=policy, has_final=episode.final is not None)


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
