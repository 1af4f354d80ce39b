"""Makes a dataset of the decisions that a served policy has logged; see :mod:`rltrain.recording.decision_log`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np

from rltrain.data.card import DatasetCard, size_category
from rltrain.data.columns import ACTION, REWARD, TERMINATED, TRUNCATED
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError
from rltrain.recording.decision_reader import IDLE_SECONDS, DecisionReader, Episode


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


def _add(writer: DatasetWriter, episode: Episode, policy: int) -> None:
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
