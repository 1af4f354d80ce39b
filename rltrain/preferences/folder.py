"""A folder of preferences: rounds of questions, the answers, and the reward models fitted to them.

``prefs/`` holds::

    preferences.json              environment and length of clips, sealed
    rounds/0001/episodes/         a dataset: what the clips of this round are parts of
    rounds/0001/pairs.json        the questions, sealed; a round counts once it is there
    films/                        the clips as films, made when somebody is to see them
    answers.jsonl                 a line for each answer, only ever appended to
    models/0001/                  reward models
    runs/round_0001/              runs of 'rltrain preferences train'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from rltrain.data.dataset import Dataset
from rltrain.errors import CheckpointError, ConfigError, DatasetError, RunError
from rltrain.preferences.answers import TARGETS, Answer, Answers
from rltrain.preferences.clips import Clip, places_of, tensors_of, true_returns
from rltrain.preferences.pairs import Pair
from rltrain.rewards.comparisons import Clips, Comparisons
from rltrain.rewards.files import MODELS, find_reward
from rltrain.runs.lock import FolderLock
from rltrain.storage.files import Damaged, check_folder, exists, may_be_whole, numbered, reason, write_atomically
from rltrain.storage.records import read_record, sealed
from rltrain.tree import tree_cat

ABOUT, ROUNDS, EPISODES, PAIRS = "preferences.json", "rounds", "episodes", "pairs.json"
ANSWERS, FILMS, RUNS = "answers.jsonl", "films", "runs"
FORMAT = 1
MOST_PAIRS = 100_000


@dataclass(frozen=True)
class Round:
    """Questions that were asked together.

    Attributes:
        number: From 1 on.
        path: Its folder.
        pairs: The questions.
        facts: What is known of it: who played, how pairs were chosen.
    """

    number: int
    path: Path
    pairs: list[Pair]
    facts: Mapping[str, Any]

    @property
    def clips(self) -> list[Clip]:
        """The clips of all its pairs, each left one before its right one."""
        return [clip for pair in self.pairs for clip in (pair.left, pair.right)]

    @cached_property
    def dataset(self) -> Dataset:
        """Its episodes.

        Raises:
            DatasetError: They are damaged, or not those that the questions are about.
        """
        dataset = Dataset.open(self.path / EPISODES)
        if dataset.checksum != self.facts.get("dataset"):
            raise DatasetError(f"'{dataset.path}' was changed since the questions were chosen.", "Ask anew.")
        return dataset


class Preferences:
    """A folder of preferences; made by :meth:`open` or :meth:`create`.

    Attributes:
        path: The folder.
        about: What ``preferences.json`` says.
        answers: The answers.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, about
        self.answers = Answers(path / ANSWERS)

    @classmethod
    def create(cls, path: str | Path, environment: Mapping[str, Any], segment: int) -> Preferences:
        """Makes a folder.

        Args:
            path: The folder.
            environment: Its ``id``.
            segment: Steps of a clip.

        Raises:
            ConfigError: It is there already, or cannot be made.
        """
        path = Path(path)
        about = {"format": FORMAT, "environment": dict(environment), "segment": segment}
        if exists(path / ABOUT):
            raise ConfigError(f"'{path}' holds preferences already.", "Leave it to 'rltrain preferences ask'.")
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_atomically(path / ABOUT, sealed(about))
        except OSError as error:
            raise ConfigError(f"'{path}' cannot be made: {reason(error)}.", "Choose another place.") from error
        return cls(path, json.loads(json.dumps(about)))

    @classmethod
    def open(cls, path: str | Path) -> Preferences:
        """Opens a folder.

        Raises:
            DatasetError: There is none, it is damaged, or a part of it is a link to somewhere else.
        """
        path = Path(path)
        _check_parts(path)
        if not exists(path / ABOUT):
            raise DatasetError(f"There are no preferences in '{path}'.", "'rltrain preferences ask' makes some.")
        about = _read(path / ABOUT)
        segment, environment = about.get("segment"), about.get("environment")
        whole = type(segment) is int and 1 <= segment < 2**31 and isinstance(environment, dict)
        if about.get("format") != FORMAT or not whole or not isinstance((environment or {}).get("id"), str):
            raise DatasetError(f"'{path / ABOUT}' does not describe preferences of this version.", "Ask anew.")
        return cls(path, about)

    @property
    def segment(self) -> int:
        """Steps of a clip."""
        return int(self.about["segment"])

    @property
    def environment(self) -> dict[str, Any]:
        """The ``id`` of the environment."""
        return self.about["environment"]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Held while questions are added or a model is fitted, by one process at a time.

        Raises:
            RunError: Another process holds it, or it cannot be locked.
        """
        lock = FolderLock(self.path)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def rounds(self) -> list[Round]:
        """The rounds, in order.

        Raises:
            DatasetError: One is damaged.
        """
        with _readable(self.path):
            folders = [path for path in numbered(self.path / ROUNDS) if exists(path / PAIRS)]
        return [_round(path) for path in folders]

    def questions(self) -> list[str]:
        """The names of all pairs, in order.

        Raises:
            DatasetError: A round is damaged.
        """
        return [pair.name for each in self.rounds() for pair in each.pairs]

    def add_round(self, number: int, pairs: Sequence[tuple[Clip, Clip]], facts: Mapping[str, Any]) -> Round:
        """Adds the questions about episodes that are in their place already; see :meth:`place`.

        Raises:
            RunError: They cannot be written.
        """
        listed = [[left.episode, left.start, right.episode, right.start] for left, right in pairs]
        path = self.path / ROUNDS / f"{number:04d}"
        try:
            write_atomically(path / PAIRS, sealed({"format": FORMAT, "pairs": listed, **facts}))
        except OSError as error:
            raise RunError(f"'{path / PAIRS}' cannot be written: {reason(error)}.", "Make room.") from error
        return _round(path)

    def place(self, number: int) -> Path:
        """Where the episodes of a round are, or are to be; its folder is made.

        Raises:
            RunError: It cannot be made.
        """
        path = self.path / ROUNDS / f"{number:04d}"
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"'{path}' cannot be made: {reason(error)}.", "Make room.") from error
        return path / EPISODES

    def models(self) -> list[Path]:
        """The reward models, oldest first.

        Raises:
            DatasetError: They cannot be read.
        """
        with _readable(self.path):
            return numbered(self.path / MODELS)

    def newest_model(self) -> Path | None:
        """The newest reward model, if there is one."""
        try:
            return find_reward(self.path)
        except CheckpointError:
            return None


def _check_parts(path: Path) -> None:
    """Checks that the folders in a folder of preferences, in which files are made and removed, are no links.

    Raises:
        DatasetError: One is a link or something else, or cannot be seen.
    """
    with _readable(path):
        for part in (ROUNDS, MODELS, FILMS, RUNS):
            check_folder(path / part)
        runs = [*(path / RUNS).glob("round_*")] if exists(path / RUNS) else []
        for each in (*numbered(path / ROUNDS), *numbered(path / MODELS), *runs):
            check_folder(each)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "Make it readable." if may_be_whole(error) else "Links inside a folder of preferences are not followed."
        raise DatasetError(f"'{error.filename or path}' cannot be used: {reason(error)}.", fix) from error


def comparisons_of(
    rounds: Sequence[Round], segment: int, answers: Sequence[Answer]
) -> tuple[Comparisons, list[Answer]]:
    """The answers to the questions of some rounds as tensors, without those that were skipped; and these answers.

    Raises:
        ConfigError: There are none.
        DatasetError: A clip is in no episode.
    """
    number_of = {pair.name: i for i, pair in enumerate(pair for each in rounds for pair in each.pairs)}
    used = [each for each in answers if each.choice in TARGETS and each.pair in number_of]
    if not used:
        raise ConfigError("There is no answer to learn from.", "Give some: rltrain preferences label DIR.")
    asked = sorted({number_of[each.pair] for each in used})
    place = {number: i for i, number in enumerate(asked)}
    clips: list[Clips] = []
    first = 0
    for each in rounds:
        check_clips(each, segment)
        mine = [each.pairs[n - first] for n in asked if first <= n < first + len(each.pairs)]
        first += len(each.pairs)
        if mine:
            clips.append(tensors_of(each.dataset, segment, [clip for pair in mine for clip in (pair.left, pair.right)]))
    both = Clips(
        tree_cat([each.obs for each in clips]),
        torch.cat([each.action for each in clips]),
        torch.cat([each.counts for each in clips]),
    )
    question = torch.tensor([place[number_of[each.pair]] for each in used])
    pairs = torch.stack([2 * question, 2 * question + 1], 1)
    target = torch.tensor([TARGETS[each.choice] for each in used])
    return Comparisons(both, pairs, target, question), used


def returns_of(rounds: Sequence[Round], segment: int) -> dict[str, tuple[float, float]]:
    """The true returns of the left and the right clip of every pair, by its name."""
    found: dict[str, tuple[float, float]] = {}
    for each in rounds:
        check_clips(each, segment)
        returns = true_returns(each.dataset, segment, each.clips).reshape(-1, 2).tolist()
        found |= {pair.name: (left, right) for pair, (left, right) in zip(each.pairs, returns, strict=True)}
    return found


def check_clips(each: Round, segment: int) -> None:
    """Checks that the clips of a round are in its dataset.

    Raises:
        DatasetError: One is not.
    """
    places = places_of(each.dataset, segment)
    for pair in each.pairs:
        for clip in (pair.left, pair.right):
            if clip.episode >= len(places) or clip.start >= places[clip.episode]:
                raise DatasetError(f"The pair '{pair.name}' has a clip that no episode has.", "Ask anew.")


def _round(path: Path) -> Round:
    facts = _read(path / PAIRS)
    listed = facts.pop("pairs", None)
    fine = isinstance(listed, list) and len(listed) <= MOST_PAIRS
    if not fine or not all(
        isinstance(each, list) and len(each) == 4 and all(type(n) is int and 0 <= n < 2**62 for n in each)
        for each in listed
    ):
        raise DatasetError(f"'{path / PAIRS}' lists no pairs of clips.", "Ask anew, in another folder.")
    number = int(path.name)
    pairs = [
        Pair(f"{number:04d}-{i:05d}", number, Clip(each[0], each[1]), Clip(each[2], each[3]))
        for i, each in enumerate(listed)
    ]
    return Round(number, path, pairs, facts)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_record(path)
    except (OSError, Damaged) as error:
        raise DatasetError(f"'{path}' cannot be used: {reason(error)}.", "Ask anew, in another folder.") from error
