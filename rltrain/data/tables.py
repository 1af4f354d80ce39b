"""Datasets from tables of decisions, and tables from datasets: CSV and Parquet, read and written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rltrain.data.card import DatasetCard, read_card
from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED
from rltrain.data.dataset import Dataset
from rltrain.data.layout import unwritable
from rltrain.data.mapping import Mapping
from rltrain.data.personal import Noise, noised, pseudonym, recorded
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError, did_you_mean
from rltrain.storage.files import exists, open_file, reason, replacing

FORMATS = ("csv", "parquet")
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0", "")


def pyarrow() -> ModuleType:
    """The library that reads and writes tables.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("pyarrow is not installed.", "pip install 'rltrain[tables]'") from error
    return pyarrow


def format_of(path: Path) -> str:
    """``csv`` or ``parquet``, by the ending of a name.

    Raises:
        ConfigError: It is neither.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(
            f"'{path}' is no table: it ends neither in .csv nor in .parquet.", "Rename it, or convert it."
        )
    return kind


def import_table(
    source: str | Path, out: str | Path, mapping: Mapping, *, key: bytes | None = None, name: str = "", seed: int = 0
) -> Dataset:
    """Makes a dataset of a table with a row for each step. Columns that the mapping does not name are not read.

    The rows of an episode are taken in the order of the table, and need not be together: an episode is over at the
    first row that is terminated or truncated, or where the table ends.

    Args:
        source: The table.
        out: The folder to make.
        mapping: What the columns mean.
        key: The key of hashes.
        name: The dataset's name; that of the folder by default.
        seed: Seed of the noise.

    Raises:
        ConfigError: The mapping does not fit the table, or a key is missing.
        DatasetError: A cell cannot be read, or an episode goes on after its end.
    """
    source = Path(source)
    hashed = [column for column, treatment in mapping.personal.items() if treatment == "hash"]
    if hashed and key is None:
        raise ConfigError(f"'{hashed[0]}' is to be hashed, and there is no key.", "Give --key-file FILE.")
    observed, acted = mapping.spaces()
    reader = _Reader(mapping, key, np.random.default_rng(seed))
    card = DatasetCard(
        pretty_name=name or Path(out).name,
        annotations_creators=["found"],
        source_data=f"The table {source.name}.",
        personal_columns=recorded(mapping.personal),
    )
    facts: dict[str, Any] = {"personal": recorded(mapping.personal)}
    if mapping.reward_range is not None:
        facts["reward_range"] = list(mapping.reward_range)
    options: dict[str, Any] = {"name": name, "how": "imported from a table", "facts": facts, "card": card}
    with DatasetWriter(out, observed, acted, **options) as writer:
        for batch in _batches(source, mapping):
            reader.take(batch, writer)
        reader.finish(writer)
        writer.manifest["policies"] = [{"name": each} for each in reader.policies] or [{"name": "unknown"}]
        card.bias_risks_and_limitations = reader.remarks()
    return Dataset.open(out)


def _batches(source: Path, mapping: Mapping) -> Iterator[dict[str, list[Any]]]:
    """The mapped columns of a table in batches of rows."""
    kind, arrow, wanted = format_of(source), pyarrow(), mapping.read()
    try:
        with open_file(source) as file:
            if kind == "csv":
                options = arrow.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, "string"))
                names = arrow.csv.open_csv(source, read_options=arrow.csv.ReadOptions(block_size=2**20)).schema.names
                _check_names(wanted, names, source)
                batches: Any = arrow.csv.open_csv(file, convert_options=options)
            else:
                table = arrow.parquet.ParquetFile(file)
                _check_names(wanted, table.schema_arrow.names, source)
                batches = table.iter_batches(batch_size=2**14, columns=wanted)
            for batch in batches:
                yield {column: batch.column(column).to_pylist() for column in wanted}
    except (OSError, arrow.ArrowException) as error:
        raise DatasetError(f"'{source}' cannot be read: {reason(error)}.", "Is it a table of that kind?") from error


def _check_names(wanted: list[str], names: list[str], source: Path) -> None:
    for column in wanted:
        if column not in names:
            fix = did_you_mean(column, names, f"It has: {', '.join(names[:30])}.")
            raise ConfigError(f"'{source}' has no column '{column}'.", fix)


class _Reader:
    """Puts rows together to episodes."""

    def __init__(self, mapping: Mapping, key: bytes | None, rng: np.random.Generator) -> None:
        self.mapping, self.key, self.rng = mapping, key, rng
        self.running: dict[str, list[dict[str, Any]]] = {}
        self.over: set[str] = set()
        self.policies: list[str] = []
        self.rows = self.dropped = 0
        choices = mapping.actions if isinstance(mapping.actions, list) else range(mapping.actions or 0)
        self.choices = {_text(choice): number for number, choice in enumerate(choices)}

    def take(self, batch: dict[str, list[Any]], writer: DatasetWriter) -> None:
        """Takes rows, and adds the episodes that are over."""
        mapping = self.mapping
        for values in zip(*batch.values(), strict=True):
            self.rows += 1
            row = dict(zip(batch, values, strict=True))
            episode = _text(row[mapping.episode])
            if episode in self.over:
                what = f"Row {self.rows} belongs to the episode '{self._shown(episode)}', which is over."
                raise DatasetError(what, "Sort the table by time, or map another column as episode.")
            self.running.setdefault(episode, []).append(row)
            if self._flag(row, mapping.terminated) or self._flag(row, mapping.truncated):
                self.over.add(episode)
                self._add(self.running.pop(episode), writer)

    def finish(self, writer: DatasetWriter) -> None:
        """Adds the episodes that have no end in the table."""
        for rows in self.running.values():
            self._add(rows, writer)

    def remarks(self) -> str:
        """What a reader of the card should know."""
        return f"{self.dropped:,} episodes with empty cells were left out." if self.dropped else ""

    def _shown(self, episode: str) -> str:
        hidden = self.mapping.episode in self.mapping.personal
        return "..." if hidden else episode[:60]

    def _add(self, rows: list[dict[str, Any]], writer: DatasetWriter) -> None:
        mapping = self.mapping
        used = [name for name in mapping.read() if name not in (mapping.terminated, mapping.truncated)]
        empty = next(((n, name) for n, row in enumerate(rows) for name in used if _is_empty(row[name])), None)
        if empty is not None:
            if mapping.incomplete == "drop":
                self.dropped += 1
                return
            what = f"'{empty[1]}' is empty in row {empty[0] + 1} of an episode."
            raise DatasetError(what, "Fill it in, or leave such episodes out: 'incomplete: drop' in the mapping.")
        columns: dict[str, np.ndarray] = {}
        masked = mapping.action_mask is not None
        for name, parts in mapping.observed.items():
            column = f"{OBS}.{name or 'observation'}" if name or masked else OBS
            columns[column] = np.stack([self._numbers(rows, part) for part in parts], 1).astype(np.float32)
        if mapping.action_mask is not None:
            mask = [[self._flag(row, part) for part in mapping.action_mask] for row in rows]
            columns[f"{OBS}.action_mask"] = np.array(mask, np.int8)
        if mapping.actions is None:
            columns[ACTION] = np.stack([self._numbers(rows, part) for part in mapping.acted], 1).astype(np.float32)
        else:
            columns[ACTION] = np.array([self._choice(row) for row in rows], np.int64)
        columns[REWARD] = self._numbers(rows, mapping.reward).astype(np.float32)
        terminated = np.array([self._flag(row, mapping.terminated) for row in rows])
        truncated = np.array([self._flag(row, mapping.truncated) for row in rows]) & ~terminated
        if not terminated[-1] and not truncated[-1]:
            terminated[-1] = mapping.last_step == "terminated"
            truncated[-1] = mapping.last_step == "truncated"
        columns |= {TERMINATED: terminated, TRUNCATED: truncated}
        groups = {name: [self._group(name, rows)] for name in mapping.groups}
        policy = _text(rows[0][mapping.policy]) if mapping.policy is not None else "unknown"
        if mapping.policy is not None and mapping.personal.get(mapping.policy) == "hash" and self.key is not None:
            policy = pseudonym(policy, self.key)
        if policy not in self.policies:
            self.policies.append(policy)
        finals = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in columns.items() if _seen(name)}
        number = self.policies.index(policy)
        writer.add(columns, [len(rows)], finals, policies=number, has_final=False, groups=groups)

    def _group(self, name: str, rows: list[dict[str, Any]]) -> str:
        values = {_text(row[name]) for row in rows}
        if len(values) > 1:
            what = f"An episode has several values of the group '{name}'."
            raise DatasetError(what, "Map as episode a column that changes with it, or take it out of groups.")
        value = values.pop()
        return pseudonym(value, self.key) if self.mapping.personal.get(name) == "hash" and self.key else value

    def _numbers(self, rows: list[dict[str, Any]], name: str) -> np.ndarray:
        try:
            values = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"'{name}' holds something that is no number.", "Map another column, or mend it."
            ) from error
        treatment = self.mapping.personal.get(name)
        return noised(values, treatment.noise, self.rng) if isinstance(treatment, Noise) else values

    def _choice(self, row: dict[str, Any]) -> int:
        value = _text(row[self.mapping.acted[0]])
        if value not in self.choices:
            raise DatasetError(
                f"The action '{value[:60]}' is none of those that the mapping lists.", "Add it to actions."
            )
        return self.choices[value]

    def _flag(self, row: dict[str, Any], name: str | None) -> bool:
        if name is None:
            return False
        text = _text(row[name]).lower()
        if text not in TRUE and text not in FALSE:
            raise DatasetError(
                f"'{name}' holds '{text[:60]}', which is neither true nor false.", "Write true or false."
            )
        return text in TRUE


def _seen(name: str) -> bool:
    return name.partition(".")[0] == OBS


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _text(value: Any) -> str:
    """A cell as text; a whole number in one form, wherever it comes from."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def export_table(dataset: Dataset, out: str | Path) -> Path:
    """Writes a table with a row for each step: episode, step, policy, groups and every number in a column of its own.

    The observation after the last step of an episode is not in it. The card is written beside it, as ``NAME.card.md``.

    Raises:
        ConfigError: The name ends neither in .csv nor in .parquet.
        DatasetError: The card is not complete, there is something already, or it cannot be written.
    """
    out = Path(out)
    kind, arrow, card = format_of(out), pyarrow(), read_card(dataset.path)
    card.check(dataset.path / "card.yaml")
    if exists(out):
        raise DatasetError(f"There is something at '{out}' already.", "Choose another name.")
    make = arrow.csv.CSVWriter if kind == "csv" else arrow.parquet.ParquetWriter
    writer: Any = None
    try:
        with replacing(out) as temporary, open(temporary, "wb") as file:
            for first, after in dataset.ranges():
                table = arrow.table(_rows(dataset, first, after))
                writer = writer or make(file, table.schema)
                writer.write_table(table)
            writer.close()
        out.with_suffix(".card.md").write_text(card.as_readme(dataset.name), encoding="utf-8")
    except OSError as error:
        raise unwritable(out, error) from error
    return out


def _rows(dataset: Dataset, first: int, after: int) -> dict[str, Any]:
    """The steps of some episodes as columns of a table."""
    numbers = np.arange(first, after)
    steps, lengths = dataset.steps_of(numbers), dataset.episodes.length[first:after]

    def spread(values: Any) -> np.ndarray:
        return np.repeat(np.asarray(values), lengths)

    start = dataset.episodes.start[first:after]
    rows: dict[str, Any] = {"episode": spread(numbers), "step": steps - spread(start)}
    rows["policy"] = spread([str(dataset.policies[code]["name"]) for code in dataset.episodes.policy[first:after]])
    for name, codes in dataset.episodes.groups.items():
        rows[name] = spread([dataset.groups[name][code] for code in codes[first:after]])
    for name in dataset.columns:
        flat = dataset.take(name, steps).reshape(len(steps), -1)
        for number, column in enumerate(flat.T):
            rows[name if not dataset.columns[name].shape else f"{name}.{number}"] = column
    return rows
