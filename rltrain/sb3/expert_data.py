"""Datasets of the ``.npz`` logs of experts that the old Stable-Baselines wrote (``generate_expert_traj``).

Stable-Baselines3 writes none itself; its predecessor, and scripts that followed it, kept ``obs``, ``actions``,
``rewards`` and ``episode_starts``, one row for each step, and ``episode_returns``.
"""

from __future__ import annotations

import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError
from rltrain.make import make_vec
from rltrain.storage.files import Damaged, open_file, reason
from rltrain.vec import own_spaces

COLUMNS = ("obs", "actions", "rewards", "episode_starts")
LIMIT = 8 * 2**30
"""Bytes of a file, unpacked: it is read whole."""


def dataset_of_expert(file: str | Path, out: str | Path, env: str | type, *, name: str = "") -> Dataset:
    """Writes the episodes in a file as a dataset.

    How an episode ended, and what its last action led to, such a file does not say. So the ends are neither terminated
    nor truncated, and the last observations are unknown.

    Args:
        file: The ``.npz`` file. Pickled objects in it are not opened.
        out: The folder to make.
        env: The environment, whose spaces say what the numbers mean.
        name: The dataset's name; that of the folder by default.

    Raises:
        ConfigError: There is no such environment.
        DatasetError: The file is damaged, or does not fit the spaces.
    """
    file = Path(file)
    with closing(make_vec(env, 1)) as vec:
        observation_space, action_space = own_spaces(vec)
    arrays = _read(file)
    steps = len(arrays["rewards"])
    starts = arrays["episode_starts"].reshape(-1).astype(bool)
    if any(len(arrays[key]) != steps for key in COLUMNS) or not steps:
        lengths = ", ".join(f"{key} {len(arrays[key]):,}" for key in COLUMNS)
        raise DatasetError(f"The columns of '{file}' have different numbers of rows: {lengths}.", "It is damaged.")
    if not starts[0]:
        raise DatasetError(f"The first row of '{file}' begins no episode.", "Mend episode_starts.")
    first = np.flatnonzero(starts)
    columns = {
        OBS: _fitted(arrays["obs"], observation_space, "obs", file),
        ACTION: _fitted(arrays["actions"], action_space, "actions", file),
        REWARD: arrays["rewards"].reshape(-1).astype(np.float32),
        TERMINATED: np.zeros(steps, bool),
        TRUNCATED: np.zeros(steps, bool),
    }
    each = np.diff([*first.tolist(), steps])
    environment = {"id": env if isinstance(env, str) else env.__name__, "options": {}}
    options: dict[str, Any] = {"name": name, "environment": environment, "how": f"from {file.name} of Stable-Baselines"}
    with DatasetWriter(out, observation_space, action_space, policies=[{"name": "expert"}], **options) as writer:
        finals = {OBS: columns[OBS][[*(first[1:] - 1), steps - 1]]}
        writer.add(columns, each, finals, has_final=False)
    return Dataset.open(out)


def _read(file: Path) -> dict[str, np.ndarray]:
    try:
        with open_file(file) as opened, zipfile.ZipFile(opened) as archive:
            names = {f"{key}.npy" for key in COLUMNS}
            if missing := sorted(names - set(archive.namelist())):
                raise Damaged(f"it has no '{missing[0].removesuffix('.npy')}'")
            if sum(info.file_size for info in archive.infolist()) > LIMIT:
                raise Damaged(f"it has more than {LIMIT:,} bytes")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as found:
                return {key: np.atleast_1d(found[key]) for key in COLUMNS}
    except (OSError, Damaged, ValueError, zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
        fix = "Name an .npz file with obs, actions, rewards and episode_starts, without pickled objects."
        raise DatasetError(f"'{file}' cannot be read: {reason(error)}.", fix) from error


def _fitted(array: np.ndarray, space: spaces.Space, what: str, file: Path) -> np.ndarray:
    """A column in the shape and type of its space.

    Raises:
        DatasetError: It does not fit.
    """
    shape = space.shape
    if shape is None or space.dtype is None:
        raise DatasetError(f"Such a file has no column for {space}.", "Use an environment whose spaces are plain.")
    if array.dtype.kind not in "biuf":
        fix = "Pictures that are files beside it are not read: put them into the array."
        raise DatasetError(f"'{what}' in '{file}' holds no numbers, but {array.dtype}.", fix)
    if array[0].size != int(np.prod(shape)):
        raise DatasetError(
            f"'{what}' in '{file}' has {array[0].size} numbers in a row, and its space is {space}.",
            "Name the environment that the file is of.",
        )
    return array.reshape(len(array), *shape).astype(space.dtype)
