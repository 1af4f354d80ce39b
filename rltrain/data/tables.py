"""Datasets from tables of decisions, and tables from datasets: CSV and Parquet, read and written batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from rltrain.data.card import DatasetCard, read_card
from rltrain.data.dataset import Dataset
from rltrain.data.layout import unwritable
from rltrain.data.mapping import Mapping
from rltrain.data.personal import recorded
from rltrain.data.rows import RowReader
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError, did_you_mean
from rltrain.naming.arguments import typed
from rltrain.storage.files import exists, open_file, reason, write_atomically
from rltrain.storage.making import replacing

FORMATS = ("csv", "parquet")


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


@typed()
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
    reader = RowReader(mapping, key, np.random.default_rng(seed))
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


@typed()
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
        write_atomically(out.with_suffix(".card.md"), card.as_readme(dataset.name))
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
