"""The dataset that a run learns from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.config import TrainConfig
from rltrain.data.dataset import Dataset
from rltrain.data.learnable import check_learnable
from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.lineage import DATASET
from rltrain.training.request import RunRequest


def open_data(request: RunRequest) -> Dataset | None:
    """The dataset that a run learns from, read whole once to compare its checksums; None if it learns from none.

    Raises:
        ConfigError: The agent needs one and there is none, or the other way round.
        DatasetError: It is damaged, or holds what nobody can learn from.
    """
    config = request.config
    if not request.agent.learns_from_data:
        share = getattr(config.agent, "offline_fraction", None)
        if config.data is None and share:
            raise ConfigError(
                "offline_fraction is the share of a dataset, and there is none.",
                "Name one: --data DIR ('rltrain record' makes one).",
            )
        if config.data is not None and not share:
            fix = (
                "Leave --data out, or train bc."
                if share is None
                else "Leave --data out, or give --agent.offline-fraction 0.5."
            )
            raise ConfigError(f"'{config.algo}' learns from environments, not from a dataset.", fix)
        return None if config.data is None else Dataset.open(config.data, verify=True)
    if config.data is None:
        raise ConfigError(
            f"'{config.algo}' learns from a dataset.", "Name one: --data DIR ('rltrain record' makes one)."
        )
    if config.stop_at_reward is not None:
        raise ConfigError(f"'{config.algo}' has no episodes in training to stop at.", "Leave --stop-at-reward out.")
    dataset = Dataset.open(config.data, verify=True)
    check_learnable(dataset)
    return dataset


def check_same_data(config: TrainConfig, metadata: Mapping[str, Any], run: Path) -> None:
    """Checks that the dataset of a run that goes on is the version that it was trained on.

    Raises:
        CheckpointError: It is another one.
        DatasetError: It is not there any more.
    """
    if config.data is None:
        return
    if Dataset.open(config.data).checksum != (metadata.get(DATASET) or {}).get("checksum"):
        raise CheckpointError(
            f"'{config.data}' is another version than the one that '{run}' was trained on.",
            "Start a new run on it; to go on with this one, put the version of then in its place.",
        )
