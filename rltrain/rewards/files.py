"""A fitted reward model on disk: a folder with its tensors and what is known of it, written once.

``0003/`` holds::

    reward.safetensors    the tensors of the ensemble
    reward.json           networks, spaces, scores, and the labels and clips it was fitted to; sealed, written last
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from rltrain.data.tensor_file import fault_in, map_arrays, write_arrays
from rltrain.errors import CheckpointError
from rltrain.rewards.ensemble import EnsembleConfig, RewardEnsemble
from rltrain.spaces import from_json, to_json
from rltrain.storage.files import (
    Damaged,
    check_folder,
    exists,
    is_gone,
    numbered,
    read_text,
    reason,
    remove,
    sync_directory,
    write_atomically,
)
from rltrain.storage.making import making
from rltrain.storage.records import CHECKSUM, parse_json, sealed, unsealed

TENSORS, FACTS = "reward.safetensors", "reward.json"
MODELS = "models"
"""The folder of reward models in a folder of preferences."""
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Tenth(_Part):
    answers: int
    foretold: float
    preferred: float


class _Scores(_Part):
    answers: int
    accuracy: float | None
    loss: float
    calibration: list[_Tenth]
    calibration_error: float


class _Known(_Part):
    """The kinds of what is known of a model, as far as it is said."""

    labels: str = ""
    datasets: list[str] = []
    seed: int = 0
    answers: int = 0
    labellers: list[str] = []
    epochs: int = 0
    keeps_level: bool = False
    held_out: _Scores | None = None
    fitted: _Scores | None = None
    config: dict[str, Any]


def save_reward(model: RewardEnsemble, path: Path, facts: Mapping[str, Any]) -> None:
    """Writes a model to a new folder, whole or not at all.

    Args:
        model: The model.
        path: The folder; a model that is there is replaced.
        facts: What is known of it, as JSON values.

    Raises:
        OSError: It cannot be written.
    """
    with making(path) as aside:
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
        entry = write_arrays(aside / TENSORS, arrays)
        about = {
            "format": FORMAT,
            "observation_space": to_json(model.observation_space),
            "action_space": to_json(model.action_space),
            "config": model.config.model_dump(mode="json"),
            "tensors": entry,
        }
        write_atomically(aside / FACTS, sealed({**about, **facts}))
        sync_directory(aside)
        remove(path)
        os.rename(aside, path)
        sync_directory(path.parent)


def find_reward(path: Path) -> Path:
    """The folder of a reward model: the one that is named, or the newest in a folder of preferences.

    Raises:
        CheckpointError: There is none, or the folder cannot be read.
    """
    try:
        if exists(path / FACTS):
            return path
        known = [each for each in numbered(path / MODELS) if exists(each / FACTS)]
    except OSError as error:
        raise CheckpointError(f"'{error.filename or path}' cannot be used: {reason(error)}.", "Look at it.") from error
    if not known:
        what = "There is no reward model in" if path.is_dir() else "There is no folder"
        raise CheckpointError(f"{what} '{path}'.", "Name a folder of preferences; 'rltrain preferences fit' makes one.")
    return known[-1]


def read_facts(path: Path) -> dict[str, Any]:
    """What is known of a model, with the ``checksum`` over it and so over the tensors.

    Raises:
        CheckpointError: It cannot be read, or was changed.
    """
    try:
        check_folder(path)
        text = read_text(path / FACTS)
        facts, unchanged = unsealed(text)
        checksum = parse_json(text).get(CHECKSUM)
        if not unchanged or not isinstance(checksum, str):
            raise Damaged("it was changed: its checksum differs")
        if facts.get("format") != FORMAT:
            raise Damaged(f"it is of the format {str(facts.get('format'))[:20]!r}, and this version reads {FORMAT}")
        _Known.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        what = ".".join(map(str, first["loc"]))
        raise _unusable(path / FACTS, Damaged(f"{what}: {first['msg']}")) from error
    except (OSError, Damaged) as error:
        raise _unusable(path / FACTS, error) from error
    return {**facts, CHECKSUM: checksum}


def load_reward(path: Path, device: torch.device | str = "cpu") -> tuple[RewardEnsemble, dict[str, Any]]:
    """A model, and what is known of it. Nothing is unpickled.

    Raises:
        CheckpointError: It cannot be read, or is damaged.
    """
    facts = read_facts(path)
    try:
        config = EnsembleConfig.model_validate(facts["config"])
        of = from_json(facts["observation_space"]), from_json(facts["action_space"]), config
        if (fault := fault_in(path / TENSORS, facts["tensors"])) is not None:
            raise Damaged(fault)
        arrays = map_arrays(path / TENSORS)
        with torch.device("meta"):  # before memory is taken for networks that may be of any size
            wanted = {name: tuple(x.shape) for name, x in RewardEnsemble(*of).state_dict().items()}
        if wanted != {name: array.shape for name, array in arrays.items()}:
            raise Damaged(f"its tensors are not those of the networks in {FACTS}")
        model = RewardEnsemble(*of)
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    except (OSError, Damaged) as error:
        raise _unusable(path / TENSORS, error) from error
    except (LookupError, TypeError, ValidationError, RuntimeError, AttributeError) as error:
        raise _unusable(path / FACTS, error) from error
    return model.to(device).requires_grad_(False).eval(), facts


def _unusable(path: Path, error: Exception) -> CheckpointError:
    if is_gone(error):
        return CheckpointError(f"'{path}' is missing.", "Fit the reward model again: rltrain preferences fit DIR.")
    return CheckpointError(f"'{path}' cannot be used: {reason(error)[:300]}.", "Fit the reward model again.")
