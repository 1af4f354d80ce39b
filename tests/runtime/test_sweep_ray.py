"""Trials of a sweep on a cluster of Ray with two workers, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rltrain.errors import ConfigError
from rltrain.search.request import SweepRequest
from rltrain.search.space import parse_space
from rltrain.search.sweep import sweep

pytest.importorskip("optuna", reason="pip install 'rltrain[sweep]'")
pytest.importorskip("ray", reason="too large to be installed for every test run: pip install 'rltrain[ray]'")

SPACE = parse_space({"agent.learning_rate": {"log": [1e-4, 1e-2]}}, "space.yaml")
SETTINGS: dict[str, Any] = {
    "total_timesteps": 512,
    "num_envs": 2,
    "n_eval_episodes": 2,
    "device": "cpu",
    "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
}


def request(out: Path, **changes: Any) -> SweepRequest:
    options: dict[str, Any] = {"settings": SETTINGS, "trials": 4, "jobs": 2, "seeds": 2, "out": out, "ray": "local"}
    return SweepRequest("ppo", "rltrain/CartPole-v1", SPACE, **{**options, **changes})


def test_two_workers_of_ray_train_the_trials(tmp_path: Path) -> None:
    lines: list[str] = []
    result = sweep(request(tmp_path / "study"), lines.append)
    assert result.counts["complete"] + result.counts["pruned"] == 4
    assert result.best is not None
    assert list(result.best["scores"]) == ["0", "1"]
    assert result.config is not None
    assert result.config.exists()
    assert len(lines) == 4
    again = sweep(request(tmp_path / "study", trials=5, ray=None))  # the study is the same without Ray
    assert again.counts["complete"] + again.counts["pruned"] == 5


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Ray cannot be used at '127\.0\.0\.1:1'"):
        sweep(request(tmp_path / "study", ray="127.0.0.1:1"))
