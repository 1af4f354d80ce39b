"""Fits a reward model to the answers in a folder of preferences, and keeps it there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rltrain.errors import CheckpointError, RunError
from rltrain.preferences.answers import checksum
from rltrain.preferences.folder import Preferences, comparisons_of
from rltrain.rewards.ensemble import EnsembleConfig, RewardEnsemble
from rltrain.rewards.files import FACTS, MODELS, load_reward, save_reward
from rltrain.rewards.fitting import fit
from rltrain.rng import derive_seed
from rltrain.storage.files import exists, reason


def fit_preferences(prefs: Preferences, config: EnsembleConfig | None = None, *, seed: int = 0) -> Path:
    """Fits a new model to all answers, from fresh weights, and returns its folder.

    Where the newest model was fitted to the same answers with the same settings, that one is returned.

    Args:
        prefs: The preferences.
        config: The networks and how they are fitted.
        seed: Seed of the weights and of the samples.

    Raises:
        ConfigError: There are no answers.
        DatasetError: Another process is working in the folder.
        RunError: The model cannot be written.
        Stopped: A signal asked for it; nothing was written.
    """
    config = config or EnsembleConfig()
    with prefs.locked():
        return _fit(prefs, config, seed)


def _fit(prefs: Preferences, config: EnsembleConfig, seed: int) -> Path:
    rounds, answers = prefs.rounds(), prefs.answers.current()
    origin: dict[str, Any] = {
        "labels": checksum(answers),
        "datasets": [each.dataset.checksum for each in rounds],
        "seed": seed,
    }
    models = prefs.models()
    known = [path for path in models if exists(path / FACTS)]
    wanted = {**origin, "config": config.model_dump(mode="json")}
    if known:
        last: dict[str, Any] = {}
        with suppress(CheckpointError):  # a damaged one is fitted again
            last = load_reward(known[-1])[1]
        if all(last.get(name) == value for name, value in wanted.items()):
            return known[-1]
    data, used = comparisons_of(rounds, prefs.segment, answers)
    dataset = rounds[0].dataset
    model = RewardEnsemble(dataset.observation_space, dataset.action_space, config, derive_seed(seed, "model"))
    found = fit(model, data, seed)
    path = prefs.path / MODELS / f"{int(models[-1].name) + 1 if models else 1:04d}"
    facts = {
        **origin,
        "environment": prefs.environment,
        "segment": prefs.segment,
        "answers": len(used),
        "labellers": sorted({each.labeller for each in used}),
        "epochs": found.epochs,
        "keeps_level": found.keeps_level,
        "held_out": None if found.held_out is None else scores(found.held_out),
        "fitted": scores(found.fitted),
    }
    try:
        save_reward(model, path, facts)
    except OSError as error:
        raise RunError(f"'{path}' cannot be written: {reason(error)}.", "Make room, and fit again.") from error
    return path


def scores(found: Any) -> dict[str, Any]:
    """How well a model foretells, as JSON values."""
    calibration = [{"answers": n, "foretold": mean, "preferred": share} for n, mean, share in found.calibration]
    return {**asdict(found), "calibration": calibration, "calibration_error": found.calibration_error}
