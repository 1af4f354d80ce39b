"""Writes a dataset: part by part beside its place, and moved there once it is whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
from gymnasium import spaces

from rltrain.data.card import DatasetCard, write_card
from rltrain.data.columns import FINAL, REWARD, Column, check_columns, is_state
from rltrain.data.dataset import Dataset
from rltrain.data.layout import CARD, FORMAT, MANIFEST, NO_SEED, PART_BYTES, TABLE, part_name, unwritable
from rltrain.data.tensor_file import TYPES, write_arrays
from rltrain.errors import DatasetError
from rltrain.naming.arguments import typed
from rltrain.spaces import to_json
from rltrain.storage.files import exists, open_file, remove, sync_directory, write_atomically
from rltrain.storage.making import unfinished
from rltrain.storage.records import sealed

HIDDEN = ".writing-"
"""What the name of a dataset that is still being written begins with."""


class DatasetWriter:
    """Writes episodes, whole ones alone. Left without an error, the dataset is there; otherwise nothing is.

    Args:
        path: The folder to make; there must be nothing yet, unless ``resume`` is given.
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        name: The dataset's name; that of the folder by default.
        environment: ``id`` and ``options`` of the environment, if it is known.
        policies: What is known of each policy that acted, as JSON values with a ``name``.
        parents: The datasets that this one is made from.
        how: How it was made, in a few words.
        facts: Further JSON values for the manifest.
        card: The dataset card.
        resume: What decides the recording, as JSON values. An unfinished dataset in this place with the same values
            is continued; :attr:`written` tells how many episodes it has.
        part_bytes: Bytes of a part.

    Raises:
        DatasetError: There is something at ``path``, or it cannot be written.
    """

    @typed()
    def __init__(
        self,
        path: str | Path,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        name: str = "",
        environment: Mapping[str, Any] | None = None,
        policies: Sequence[Mapping[str, Any]] = ({"name": "unknown"},),
        parents: Sequence[Dataset] = (),
        how: str = "",
        facts: Mapping[str, Any] | None = None,
        card: DatasetCard | None = None,
        resume: Mapping[str, Any] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.path = Path(path)
        self._spaces = observation_space, action_space
        self.part_bytes = part_bytes
        self.card = card or DatasetCard(pretty_name=name or self.path.name)
        self.manifest: dict[str, Any] = {
            "format": FORMAT,
            "name": name or self.path.name,
            "how": how,
            "environment": None if environment is None else dict(environment),
            "observation_space": to_json(observation_space),
            "action_space": to_json(action_space),
            "policies": [dict(policy) for policy in policies],
            "ancestors": list(dict.fromkeys(sum_of for each in parents for sum_of in (each.checksum, *each.ancestors))),
            **dict(facts or {}),
        }
        self.manifest = json.loads(json.dumps(self.manifest))  # as it is read back
        self.columns: dict[str, Column] = {}
        self.groups: dict[str, dict[str, int]] = {}
        self.written = 0  # episodes
        self._parts: list[dict[str, Any]] = []
        self._table: dict[str, list[np.ndarray]] = {}
        self._waiting: list[tuple[dict[str, np.ndarray], np.ndarray]] = []  # columns and lengths of blocks
        self._waiting_bytes = 0
        self._resume = None if resume is None else dict(resume)
        self._temporary = self.path.with_name(f"{HIDDEN}{self.path.name}")
        self._lock = filelock.FileLock(str(self._temporary) + ".lock")
        self._unfinished = ExitStack()
        self._begin()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._release()

    def add(
        self,
        columns: Mapping[str, np.ndarray],
        lengths: Sequence[int] | np.ndarray,
        finals: Mapping[str, np.ndarray],
        *,
        seeds: np.ndarray | None = None,
        policies: np.ndarray | int = 0,
        has_final: np.ndarray | bool = True,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Adds E whole episodes with M steps together.

        Args:
            columns: (M, ...) each, one episode after another.
            lengths: (E,) steps of each episode.
            finals: (E, ...) each, the values of the columns of states after the last step of each episode.
            seeds: (E,) int64 seeds of the resets that began them; -1 or None where they are not known.
            policies: (E,) indices of the policies that acted.
            has_final: (E,) bool, whether ``finals`` has the observations.
            groups: (E,) texts for each group column.

        Raises:
            DatasetError: A column has another type or shape than before, or the disk is full.
        """
        lengths = np.asarray(lengths, np.int64)
        count, steps = len(lengths), int(lengths.sum())
        if not count:
            return
        if int(lengths.min()) < 1:
            raise DatasetError("An episode has no steps.", "Leave it out.")
        arrays = {**columns, **{FINAL + name: array for name, array in finals.items()}}
        if not self.columns:
            self.columns = {
                name: Column(_known(name, array).dtype.name, array.shape[1:], is_state(name))
                for name, array in columns.items()
            }
            try:
                check_columns(self.columns, *self._spaces)
            except ValueError as error:
                raise DatasetError(f"These are not the columns of a dataset: {error}.", "Give those too.") from error
        for name, column in self.columns.items():
            self._check(name, columns.get(name), column, steps)
            if column.state:
                self._check(FINAL + name, arrays.get(FINAL + name), column, count)
        if extra := set(columns) - set(self.columns):
            raise DatasetError(f"The column '{min(extra)}' is in some episodes alone.", "Give it to all, or to none.")
        ends = np.cumsum(lengths)
        rewards = np.asarray(columns[REWARD], np.float64)
        table = {
            "length": lengths,
            "returns": np.add.reduceat(rewards, ends - lengths),
            "seed": np.broadcast_to(np.asarray(NO_SEED if seeds is None else seeds, np.int64), (count,)),
            "policy": np.broadcast_to(np.asarray(policies, np.int32), (count,)),
            "has_final": np.broadcast_to(np.asarray(has_final, bool), (count,)),
            **{f"group.{name}": self._codes(name, values) for name, values in (groups or {}).items()},
        }
        if self._table and set(table) != set(self._table):
            raise DatasetError("A group column is in some episodes alone.", "Give it to all, or to none.")
        for name, values in table.items():
            self._table.setdefault(name, []).append(values)
        self.written += count
        self._waiting.append((arrays, lengths))
        self._waiting_bytes += sum(array.nbytes for array in arrays.values())
        if self._waiting_bytes >= self.part_bytes:
            self._flush()

    @property
    def steps(self) -> int:
        """Steps that were added."""
        return sum(int(lengths.sum()) for lengths in self._table.get("length", ()))

    def save(self) -> None:
        """Writes what was added, so that a later process can go on from here.

        Raises:
            DatasetError: The disk is full.
        """
        self._flush()
        self._write_manifest({"writing": True})

    def _check(self, name: str, array: np.ndarray | None, column: Column, rows: int) -> None:
        if array is None:
            raise DatasetError(f"Episodes have no '{name}', which others have.", "Give it to all, or to none.")
        if (array.dtype.name, array.shape) != (column.dtype, (rows, *column.shape)):
            given, owed = f"{array.dtype.name} {array.shape}", f"{column.dtype} {(rows, *column.shape)}"
            raise DatasetError(f"'{name}' is {given}, and it should be {owed}.", "Make all episodes alike.")

    def _codes(self, name: str, values: Sequence[str]) -> np.ndarray:
        known = self.groups.setdefault(name, {})
        return np.array([known.setdefault(str(value), len(known)) for value in values], np.int32)

    def _flush(self) -> None:
        """Writes the waiting blocks as one part, or several if they are large."""
        if not self._waiting:
            return
        blocks, self._waiting, self._waiting_bytes = self._waiting, [], 0
        lengths = np.concatenate([each for _, each in blocks])
        arrays = {name: _joined([block[name] for block, _ in blocks]) for name in blocks[0][0]}
        ends, steps = np.cumsum(lengths), int(lengths.sum())
        row = max(1, sum(column.row_bytes for column in self.columns.values()))
        rows = steps if steps * row < 2 * self.part_bytes else max(1, self.part_bytes // row)
        for first in range(0, steps, rows):
            last = min(first + rows, steps)
            begin, end = np.searchsorted(ends, [first, last], side="right").tolist()
            part = {
                name: array[begin:end] if name.startswith(FINAL) else array[first:last]
                for name, array in arrays.items()
            }
            try:
                entry = write_arrays(self._temporary / part_name(len(self._parts)), part)
            except OSError as error:
                raise unwritable(self.path, error) from error
            self._parts.append({**entry, "steps": last - first, "ends": end - begin})

    def _write_manifest(self, state: Mapping[str, Any]) -> None:
        if not self.written:
            raise DatasetError("There is no episode to write.", "Give it at least one whole episode.")
        table = {name: np.concatenate(values) for name, values in self._table.items()}
        number = 0
        while exists(self._temporary / (name := TABLE if not number else f"episodes_{number}.safetensors")):
            number += 1
        try:
            entry = write_arrays(self._temporary / name, table)
            manifest = {
                **self.manifest,
                "episodes": self.written,
                "steps": self.steps,
                "columns": {name: column.as_json() for name, column in self.columns.items()},
                "groups": {name: list(values) for name, values in self.groups.items()},
                "parts": self._parts,
                "table": entry,
                **({} if self._resume is None else {"recording": self._resume}),
                **state,
            }
            write_atomically(self._temporary / MANIFEST, sealed(manifest))
            for other in self._temporary.glob("episodes*.safetensors"):
                if other.name != name:
                    remove(other)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _finish(self) -> None:
        self._flush()
        self._write_manifest({})
        try:
            write_card(self._temporary / CARD, self.card)
            sync_directory(self._temporary)
            os.rename(self._temporary, self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _begin(self) -> None:
        try:
            if exists(self.path):
                raise DatasetError(f"There is something at '{self.path}' already.", "Choose another place for it.")
            if not self.path.absolute().parent.is_dir():  # which the lock would make
                raise DatasetError(f"There is no folder '{self.path.parent}'.", "Make it first.")
            if exists(lock := Path(self._lock.lock_file)):
                open_file(lock).close()  # the lock would empty the file behind a link
            self._lock.acquire(timeout=0)
            self._unfinished.enter_context(unfinished(lock))
            if exists(self._temporary):
                if self._resume is not None and self._continue():
                    return
                remove(self._temporary)
            if self._resume is None:
                self._unfinished.enter_context(unfinished(self._temporary))
            os.mkdir(self._temporary)
        except filelock.Timeout:
            raise DatasetError(f"Another process is writing '{self.path}'.", "Wait for it, or stop it.") from None
        except DatasetError:
            self._release()
            raise
        except OSError as error:
            self._release()
            raise unwritable(self.path, error) from error

    def _continue(self) -> bool:
        """Goes on with what a process before this one has saved, if it was writing the same."""
        try:
            found = Dataset.open(self._temporary, verify=True, partial=True)
        except DatasetError:
            return False
        mine = {**self.manifest, "recording": self._resume}
        if any(found.manifest.get(name) != value for name, value in mine.items()):
            return False
        self.columns, self._parts, self.written = found.columns, found.parts, len(found.episodes)
        self.groups = {name: {value: code for code, value in enumerate(found.groups[name])} for name in found.groups}
        table, episodes = {}, found.episodes
        for name in ("length", "returns", "seed", "policy", "has_final"):
            table[name] = [np.array(getattr(episodes, name))]
        self._table = table | {f"group.{name}": [np.array(codes)] for name, codes in episodes.groups.items()}
        known = {part["file"] for part in self._parts} | {found.manifest["table"]["file"], MANIFEST}
        for path in self._temporary.iterdir():
            if path.name not in known:
                remove(path)
        return True

    def _release(self) -> None:
        """Removes the lock, and what is half written unless it can be gone on with."""
        self._unfinished.close()
        if self._lock.is_locked:
            self._lock.release()


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _known(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in TYPES.values():
        raise DatasetError(f"'{name}' is of the type {array.dtype}, which a dataset does not hold.", "Give numbers.")
    return array
