"""Minari's datasets as ours and ours as Minari's, through Minari's own storage: equal to the bit.

Minari: https://minari.farama.org. Spaces come from its metadata alone: an environment that these name is never made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.card import DatasetCard, read_card, size_category
from rltrain.data.columns import ACTION, INFO, OBS, REWARD, TERMINATED, TRUNCATED, flatten, unflatten
from rltrain.data.dataset import Dataset
from rltrain.data.hdf5 import check_hdf5
from rltrain.data.layout import NO_SEED, unwritable
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError
from rltrain.naming.arguments import typed
from rltrain.storage.files import Damaged, check_folder, exists, reason
from rltrain.storage.making import making
from rltrain.storage.records import read_json

METADATA, MAIN = "metadata.json", "main_data.hdf5"
AT_ONCE = 64  # episodes that are held in memory at a time


def minari() -> ModuleType:
    """The library.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import minari.dataset._storages
        import minari.serialization
    except ImportError as error:
        raise ConfigError("Minari is not installed.", "pip install 'rltrain[minari]'") from error
    return minari


@typed()
def import_minari(source: str | Path, out: str | Path, *, name: str = "") -> Dataset:
    """Makes a dataset of one of Minari's.

    Args:
        source: Its folder, which holds ``data``, or the folder ``data`` itself; or its id in Minari's own place.
        out: The folder to make.
        name: The dataset's name; its id by default.

    Raises:
        DatasetError: It cannot be read, or has a kind of space that ours does not.
    """
    library = minari()
    folder = _folder(source, library)
    try:
        metadata = read_json(folder / METADATA)
        _check_files(folder, metadata)
    except (OSError, Damaged) as error:
        what = f"'{folder}' is no dataset of Minari that can be read: {reason(error)}."
        raise DatasetError(what, "Name its folder, or its id.") from error
    observed, acted = (_space(library, metadata, key, folder) for key in ("observation_space", "action_space"))
    storage = library.dataset._storages.get_minari_storage(metadata["data_format"])(
        folder, observed, acted, jpeg_encoding=bool(metadata.get("jpeg_encoding", True))
    )
    count, environment = int(metadata["total_episodes"]), _env_id(metadata)
    title = str(metadata.get("dataset_id", folder.parent.name))
    policy = {"name": str(metadata.get("algorithm_name") or "unknown")}
    facts = {"minari": {key: value for key, value in metadata.items() if key not in ("data_format", "dataset_size")}}
    card = DatasetCard(
        pretty_name=name or title,
        source_datasets=["original"],
        source_data=f"The Minari dataset {title}. {metadata.get('description', '')}".strip(),
        size_categories=[size_category(int(metadata.get("total_steps", 0)))],
    )
    options: dict[str, Any] = {"name": name or title, "environment": environment and {"id": environment, "options": {}}}
    how = "imported from Minari"
    with DatasetWriter(out, observed, acted, **options, policies=[policy], how=how, facts=facts, card=card) as writer:
        for first in range(0, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            try:
                pairs = list(zip(storage.get_episodes(numbers), storage.get_episode_metadata(numbers), strict=True))
            except DatasetError:
                raise
            except Exception as error:  # of h5py, pyarrow or Pillow
                what = f"An episode from {first} on cannot be read: {reason(error)}."
                raise DatasetError(what, "The file is damaged.") from error
            for episode, facts_of in pairs:
                _add(writer, observed, acted, episode, facts_of)
    return Dataset.open(out)


def _add(
    writer: DatasetWriter,
    observed: spaces.Space,
    acted: spaces.Space,
    episode: dict[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Adds an episode of Minari."""
    length = len(episode["rewards"])
    if not length:
        raise DatasetError(f"Episode {episode['id']} has no steps.", "Leave it out in Minari first.")
    states = flatten(observed, episode["observations"], OBS) | dict(_infos(episode.get("infos") or {}, length))
    columns = {
        **{name: array[:-1] for name, array in states.items()},
        **flatten(acted, episode["actions"], ACTION),
        REWARD: np.asarray(episode["rewards"]),
        TERMINATED: np.asarray(episode["terminations"]).astype(bool),
        TRUNCATED: np.asarray(episode["truncations"]).astype(bool),
    }
    wrong = next((name for name, array in states.items() if len(array) != length + 1), None)
    if wrong is not None:
        what = f"Episode {episode['id']} has {length} steps and {len(states[wrong])} rows of '{wrong}'."
        raise DatasetError(what, "There is one more observation than steps in Minari's format.")
    seed = facts.get("seed")
    known = isinstance(seed, int | np.integer) and 0 <= seed < 2**63
    writer.add(
        columns,
        [length],
        {name: array[-1:] for name, array in states.items()},
        seeds=np.array([seed if known else NO_SEED], np.int64),
    )


def _infos(infos: Mapping[str, Any], length: int, root: str = INFO) -> Iterator[tuple[str, np.ndarray]]:
    """The numbers in infos that have one for every observation, as columns; text and others are left out."""
    for key, value in infos.items():
        if isinstance(value, Mapping):
            yield from _infos(value, length, f"{root}.{key}")
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and len(value) == length + 1:
            yield f"{root}.{key}", value


@typed()
def export_minari(dataset: Dataset, root: str | Path, dataset_id: str, *, data_format: str = "hdf5") -> Path:
    """Writes a dataset as one of Minari's, ``root/dataset_id/data``, with its card beside.

    ``MINARI_DATASETS_PATH=root`` lets ``minari.load_dataset(dataset_id)`` find it. Pictures are kept as they are, not
    as JPEG.

    Returns:
        The folder ``data``.

    Raises:
        ConfigError: It has no such format, or the id is none.
        DatasetError: The card is not complete, there is something already, or it cannot be written.
    """
    library = minari()
    card = read_card(dataset.path)
    card.check(dataset.path / "card.yaml")
    parts = dataset_id.split("/")
    if not all(part and part.strip(".") and set(part) <= _ID_LETTERS for part in parts):
        raise ConfigError(f"'{dataset_id}' is no id of a dataset in Minari.", "Such as cartpole/expert-v0.")
    if data_format not in (known := library.dataset._storages.get_storage_keys()):
        raise ConfigError(f"Minari has no format '{data_format}'.", f"It has: {', '.join(known)}.")
    target = Path(root, *parts)
    if exists(target):
        raise DatasetError(f"There is something at '{target}' already.", "Choose another --id.")
    try:
        with making(target.absolute()) as temporary:  # Minari joins a relative path with itself
            (temporary / "data").mkdir()
            _write(dataset, temporary / "data", dataset_id, data_format, library)
            (temporary / "README.md").write_text(card.as_readme(dataset_id), encoding="utf-8")
            temporary.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return target / "data"


_ID_LETTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def _write(dataset: Dataset, folder: Path, dataset_id: str, data_format: str, library: ModuleType) -> None:
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    observed, acted = dataset.observation_space, dataset.action_space
    storage = MinariStorage.new(folder, observed, acted, data_format=data_format, jpeg_encoding=False)

    def buffers() -> Iterator[Any]:
        for number in range(len(dataset.episodes)):
            episode = dataset.episode(number)
            seed = int(dataset.episodes.seed[number])
            yield EpisodeBuffer(
                id=number,
                seed=None if seed == NO_SEED else seed,
                observations=unflatten(observed, episode, OBS),
                actions=unflatten(acted, episode, ACTION),
                rewards=episode[REWARD],
                terminations=episode[TERMINATED],
                truncations=episode[TRUNCATED],
                infos=_nested({name: array for name, array in episode.items() if name.startswith(f"{INFO}.")}),
            )

    storage.update_episodes(buffers())
    kept = dataset.manifest.get("minari") or {}
    more = {key: kept[key] for key in ("description", "code_permalink", "algorithm_name") if key in kept}
    policies = ", ".join(str(each["name"]) for each in dataset.policies)
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": library.__version__,
            "algorithm_name": policies,
            "description": f"{dataset.name}, rltrain dataset {dataset.checksum}",
            **more,
        }
    )
    if env_spec := kept.get("env_spec") or _spec_of(dataset):
        data = json.loads((folder / METADATA).read_text())
        (folder / METADATA).write_text(json.dumps({**data, "env_spec": env_spec}))


def _spec_of(dataset: Dataset) -> str | None:
    """The environment as Minari's metadata name it, if Gymnasium knows it and it has no options."""
    import gymnasium

    environment = dataset.manifest.get("environment")
    if not environment or environment["options"] or environment["id"] not in gymnasium.registry:
        return None
    try:
        return gymnasium.spec(environment["id"]).to_json()
    except (TypeError, ValueError):
        return None


def _nested(columns: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Columns ``info.a.b`` as ``{"a": {"b": ...}}``."""
    infos: dict[str, Any] = {}
    for name, array in columns.items():
        *path, last = name.split(".")[1:]
        branch = infos
        for key in path:
            branch = branch.setdefault(key, {})
        branch[last] = array
    return infos or None


def _folder(source: str | Path, library: ModuleType) -> Path:
    """The folder with the data."""
    path = Path(source)
    if not path.exists() and len(path.parts) < 4:
        from minari.storage.datasets_root_dir import get_dataset_path

        path = Path(get_dataset_path(str(source)))
    return path if exists(path / METADATA) else path / "data"


def _space(library: ModuleType, metadata: Mapping[str, Any], key: str, folder: Path) -> spaces.Space:
    """A space by its description."""
    text = metadata.get(key)
    try:
        if not isinstance(text, str):
            raise ValueError(f"its {METADATA} does not describe the {key}")
        data = json.loads(text)
        _check_sizes(data)
        return library.serialization.deserialize_space(data)
    except Exception as error:  # whatever a wrong description causes
        what = f"'{folder}' cannot be read: {str(error)[:200] or type(error).__name__}."
        raise DatasetError(what, "The spaces must be written in it.") from error


def _check_sizes(data: Any) -> None:
    """Refuses the description of a space with impossibly many numbers."""
    shape = data.get("shape", [])
    if int(np.prod([float(side) for side in shape])) > 2**26:
        raise ValueError(f"a shape of {shape}")
    inner = data.get("subspaces", [])
    for part in inner.values() if isinstance(inner, dict) else inner:
        _check_sizes(part)


def _env_id(metadata: Mapping[str, Any]) -> str | None:
    """The id of the environment, which is not made."""
    try:
        found = json.loads(metadata["env_spec"])["id"]
    except (KeyError, TypeError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _check_files(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Refuses links out of the folder, links inside an HDF5 file, and columns that are impossibly large.

    Raises:
        OSError: There is one, or a file is missing.
        Damaged: A column is too large, or the metadata say nothing of the data.
    """
    if not all(key in metadata for key in ("data_format", "total_episodes")):
        raise Damaged(f"its {METADATA} says nothing of the data")
    check_folder(folder)
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise Damaged(f"{path.name} is a symbolic link")
    if metadata["data_format"] != "hdf5":
        return
    check_hdf5(folder / MAIN)
