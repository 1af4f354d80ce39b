"""A dataset on disk: opened after its manifest was checked, its columns read where they lie."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import FINAL, TERMINATED, TRUNCATED, Column, check_columns
from rltrain.data.layout import FORMAT, MANIFEST, MANIFEST_LIMIT, PART_BYTES, TABLE, damaged, unreadable
from rltrain.data.manifest import check_manifest
from rltrain.data.tensor_file import fault_in, map_arrays
from rltrain.errors import CheckpointError, DatasetError
from rltrain.naming.arguments import typed
from rltrain.spaces import from_json
from rltrain.storage.digests import unreadable_in_time
from rltrain.storage.files import Damaged, check_folder, read_text
from rltrain.storage.records import CHECKSUM, parse_json, unsealed

OPEN_PARTS = 256  # mapped at a time: each holds a descriptor


@dataclass(frozen=True)
class Episodes:
    """The episodes of a dataset, an entry of each array for one of them.

    Attributes:
        length: (E,) int64 steps.
        returns: (E,) float64 sum of rewards.
        seed: (E,) int64 seed of the reset that began it; -1 if it is not known.
        policy: (E,) int32 index into the dataset's policies.
        has_final: (E,) bool, whether the observation after the last step is known.
        groups: (E,) int32 for each group column, index into its values.
    """

    length: np.ndarray
    returns: np.ndarray
    seed: np.ndarray
    policy: np.ndarray
    has_final: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.length)

    @property
    def end(self) -> np.ndarray:
        """(E,) the step after the last one of each."""
        return np.cumsum(self.length)

    @property
    def start(self) -> np.ndarray:
        """(E,) the first step of each."""
        return self.end - self.length


class Dataset:
    """Episodes of one environment; made by :meth:`open`.

    Attributes:
        path: Its folder.
        manifest: What ``dataset.json`` says.
        checksum: SHA-256 over the manifest, and with it over all data: the identity of this version.
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        columns: Its columns by name.
        episodes: Its episodes.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], checksum: str) -> None:
        check_manifest(manifest)
        self.path, self.manifest, self.checksum = path, manifest, checksum
        self.observation_space: spaces.Space = from_json(manifest["observation_space"])
        self.action_space: spaces.Space = from_json(manifest["action_space"])
        self.columns = {str(name): Column.from_json(entry) for name, entry in manifest["columns"].items()}
        check_columns(self.columns, self.observation_space, self.action_space)
        self.parts: list[dict[str, Any]] = manifest["parts"]
        self._step_of = np.cumsum([0, *(int(part["steps"]) for part in self.parts)])  # the first step of each part
        self._episode_of = np.cumsum([0, *(int(part["ends"]) for part in self.parts)])  # the first that ends in it
        self._mapped: OrderedDict[int, dict[str, np.ndarray]] = OrderedDict()
        self.episodes = self._read_table()

    @classmethod
    @typed()
    def open(cls, path: str | Path, *, verify: bool = False, partial: bool = False) -> Dataset:
        """Opens a dataset. Nothing is unpickled, and links are not followed.

        Args:
            path: Its folder.
            verify: Whether to read all of it and compare its checksums.
            partial: Whether it may be one that is still being written.

        Raises:
            DatasetError: There is none, or it is damaged.
        """
        path = Path(path)
        try:
            check_folder(path)
            text = read_text(path / MANIFEST, MANIFEST_LIMIT)
            manifest, unchanged = unsealed(text)
            checksum = str(parse_json(text).get(CHECKSUM))
        except (OSError, Damaged) as error:
            raise unreadable(path / MANIFEST, error) from error
        if manifest.get("format") != FORMAT:
            what = f"it is of the format {str(manifest.get('format'))[:20]!r}, and this version reads {FORMAT}"
            raise damaged(path / MANIFEST, what)
        if not unchanged or len(checksum) != 64:
            raise damaged(path / MANIFEST, "it was changed: its checksum differs")
        if manifest.get("writing") and not partial:
            raise DatasetError(f"'{path}' is still being written.", "Run the command that writes it again.")
        try:
            dataset = cls(path, manifest, checksum)
        except (LookupError, TypeError, ValueError, AttributeError, CheckpointError) as error:
            raise damaged(path / MANIFEST, f"it does not describe a dataset ({str(error)[:200]})") from error
        if verify:
            dataset.verify()
        return dataset

    def verify(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
            DatasetError: One was changed, or cannot be read.
        """
        entries = (*self.parts, self.manifest["table"])
        if (fault := unreadable_in_time(self.path, [self._file(entry).name for entry in entries])) is not None:
            raise damaged(self.path, fault)
        for entry in entries:
            file = self._file(entry)
            try:
                fault = fault_in(file, entry)
            except OSError as error:
                raise unreadable(file, error) from error
            if fault is not None:
                raise damaged(file, fault)

    def __len__(self) -> int:
        """The number of steps."""
        return int(self._step_of[-1])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.manifest["name"])

    @property
    def policies(self) -> list[dict[str, Any]]:
        """The policies that acted, by index."""
        return self.manifest["policies"]

    @property
    def groups(self) -> dict[str, list[str]]:
        """The values of each group column, by index."""
        return self.manifest["groups"]

    @property
    def ancestors(self) -> list[str]:
        """The checksums of all datasets that this one was made from."""
        return list(self.manifest["ancestors"])

    @property
    def row_bytes(self) -> int:
        """Bytes of a step."""
        return sum(column.row_bytes for column in self.columns.values())

    def lineage(self) -> dict[str, Any]:
        """What a run that learns from it records."""
        path = str(self.path.absolute())
        return {"name": self.name, "path": path, "checksum": self.checksum, "ancestors": self.ancestors}

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """The rows ``start`` to ``stop`` of a column; not copied where they lie in one part."""
        pieces = [
            self._part(number)[name][max(0, start - first) : stop - first]
            for number in self._parts_between(start, stop)
            if (first := int(self._step_of[number])) < stop
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate([self._no_rows(name), *pieces])

    def take(self, name: str, steps: np.ndarray) -> np.ndarray:
        """Rows of a column, for steps in any order: (len(steps), *shape)."""
        return self._gather(name, np.asarray(steps), self._step_of)

    def after(self, name: str, steps: np.ndarray) -> np.ndarray:
        """What a column of states, such as ``obs``, holds after each of these steps: (len(steps), *shape)."""
        steps, end = np.asarray(steps), self.episodes.end
        episode = np.searchsorted(end, steps, side="right")
        last = steps + 1 == end[episode]
        values = self.take(name, np.where(last, steps, steps + 1))
        values[last] = self.final(name, episode[last])
        return values

    def final(self, name: str, episodes: np.ndarray) -> np.ndarray:
        """What a column of states holds after the last step of these episodes: (len(episodes), *shape)."""
        return self._gather(FINAL + name, np.asarray(episodes), self._episode_of)

    def step_columns(self) -> dict[str, Column]:
        """The columns with one value for each step."""
        return {name: column for name, column in self.columns.items() if not column.state}

    def state_columns(self) -> dict[str, Column]:
        """The columns with a value before and after every step."""
        return {name: column for name, column in self.columns.items() if column.state}

    def episode(self, number: int) -> dict[str, np.ndarray]:
        """The columns of one episode: (length, ...), or (length + 1, ...) for states."""
        start, end = int(self.episodes.start[number]), int(self.episodes.end[number])
        columns = {name: self.read(name, start, end) for name in self.columns}
        finals = {name: self.final(name, np.array([number])) for name in self.state_columns()}
        return {**columns, **{name: np.concatenate([columns[name], final]) for name, final in finals.items()}}

    def ranges(self, at_most: int = PART_BYTES) -> Iterator[tuple[int, int]]:
        """Ranges of episodes that together take at most so many bytes, or are one: (first, after the last)."""
        first, taken, row = 0, 0, max(1, self.row_bytes)
        for number, length in enumerate(self.episodes.length.tolist()):
            if number > first and taken + length * row > at_most:
                yield first, number
                first, taken = number, 0
            taken += length * row
        if first < len(self.episodes):
            yield first, len(self.episodes)

    def steps_of(self, episodes: Sequence[int] | np.ndarray) -> np.ndarray:
        """The steps of some episodes, one episode after another."""
        chosen = np.asarray(episodes, np.int64)
        length, start = self.episodes.length[chosen], self.episodes.start[chosen]
        before = np.cumsum(length) - length
        return np.repeat(start - before, length) + np.arange(int(length.sum()))

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether each episode was terminated and whether it was truncated, (E,) bool each."""
        last = self.episodes.end - 1
        return self.take(TERMINATED, last).astype(bool), self.take(TRUNCATED, last).astype(bool)

    def _no_rows(self, name: str) -> np.ndarray:
        column = self.columns[name.removeprefix(FINAL)]
        return np.empty((0, *column.shape), column.dtype)

    def _gather(self, name: str, rows: np.ndarray, first_of: np.ndarray) -> np.ndarray:
        column = self.columns[name.removeprefix(FINAL)]
        out = np.empty((len(rows), *column.shape), column.dtype)
        where = np.searchsorted(first_of, rows, side="right") - 1
        for number in np.unique(where).tolist():
            mine = where == number
            out[mine] = self._part(number)[name][rows[mine] - first_of[number]]
        return out

    def _parts_between(self, start: int, stop: int) -> range:
        first = int(np.searchsorted(self._step_of, start, side="right")) - 1
        return range(max(first, 0), min(int(np.searchsorted(self._step_of, stop, side="left")), len(self.parts)))

    def _file(self, entry: Mapping[str, Any]) -> Path:
        name = str(entry["file"])
        if not name.endswith(".safetensors") or not name.replace("_", "").replace(".", "").isalnum():
            raise damaged(self.path / MANIFEST, f"it lists {name[:100]!r}, which is no file of a dataset")
        return self.path / name

    def _part(self, number: int) -> dict[str, np.ndarray]:
        if number in self._mapped:
            self._mapped.move_to_end(number)
            return self._mapped[number]
        entry = self.parts[number]
        arrays = self._map(entry)
        for name, column in self.columns.items():
            rows = {name: int(entry["steps"])} | ({FINAL + name: int(entry["ends"])} if column.state else {})
            for key, count in rows.items():
                array = arrays.get(key)
                if array is None or array.shape != (count, *column.shape) or array.dtype != np.dtype(column.dtype):
                    raise damaged(self._file(entry), f"'{key}' is not as {MANIFEST} says")
        self._mapped[number] = arrays
        if len(self._mapped) > OPEN_PARTS:
            self._mapped.popitem(last=False)
        return arrays

    def _map(self, entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
        file = self._file(entry)
        try:
            return map_arrays(file)
        except (OSError, Damaged) as error:
            raise unreadable(file, error) from error

    def _read_table(self) -> Episodes:
        """The table of episodes.

        Raises:
            ValueError: It does not fit the manifest.
        """
        arrays = self._map(self.manifest["table"])
        kinds = {"length": "int64", "returns": "float64", "seed": "int64", "policy": "int32", "has_final": "bool"}
        kinds |= {f"group.{name}": "int32" for name in self.groups}
        count = int(self._episode_of[-1])
        for name, kind in kinds.items():
            if name not in arrays or arrays[name].shape != (count,) or arrays[name].dtype != np.dtype(kind):
                raise ValueError(f"{TABLE} has no fitting '{name}'")
        groups = {name: arrays[f"group.{name}"] for name in self.groups}
        episodes = Episodes(**{name: arrays[name] for name in kinds if "." not in name}, groups=groups)
        indices: list[tuple[str, np.ndarray, list[Any]]] = [("policy", episodes.policy, self.policies)]
        indices += [(name, groups[name], self.groups[name]) for name in groups]
        for name, codes, values in indices:
            if count and not (int(codes.min()) >= 0 and int(codes.max()) < len(values)):
                raise ValueError(f"{TABLE} has a '{name}' that is not listed")
        if count and (int(episodes.length.min()) < 1 or int(episodes.end[-1]) != int(self._step_of[-1])):
            raise ValueError("the episodes have other lengths than the data")
        return episodes
