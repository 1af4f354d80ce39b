"""Trials of a sweep on a cluster of Ray with two workers, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.search.request import SweepRequest
from rltrain.search.space import parse_space
from rltrain.search.sweep import sweep

optuna = pytest.importorskip("optuna", reason="pip install 'rltrain[sweep]'")
ray = pytest.importorskip("ray", reason="too large to be installed for every test run: pip install 'rltrain[ray]'")

SPACE = parse_space({"agent.learning_rate": {"log": [1e-4, 1e-2]}}, "space.yaml")
SETTINGS: dict[str, Any] = {
    "total_timesteps": 512,
    "num_envs": 2,
    "n_eval_episodes": 2,
    "device": "cpu",
    "agent": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
}


def request(out: Path, **changes: Any) -> SweepRequest:
    options: dict[str, Any] = {"settings": SETTINGS, "trials": 4, "jobs": 2, "seeds": 2, "sampler": "random"}
    options |= {"pruner": "none", "name": "study", "out": out, "ray": "local"}
    return SweepRequest("ppo", "rltrain/CartPole-v1", SPACE, **{**options, **changes})


def values(out: Path) -> list[tuple[dict[str, Any], float]]:
    """What each trial drew and scored."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(out / "study.journal")))
    return [(trial.params, trial.value) for trial in optuna.load_study(study_name="study", storage=storage).trials]


def test_two_workers_of_ray_score_as_processes_of_this_machine_do(tmp_path: Path) -> None:
    lines: list[str] = []
    result = sweep(request(tmp_path / "ray"), lines.append)
    assert result.counts["complete"] == len(lines) == 4
    assert result.config is not None
    assert result.config.exists()
    assert not ray.is_initialized()
    other = sweep(request(tmp_path / "here", ray=None))
    assert values(tmp_path / "ray") == values(tmp_path / "here")
    assert other.config is not None
    assert result.config.read_text() == other.config.read_text()
    again = sweep(request(tmp_path / "ray", trials=5, ray=None))  # a study needs no Ray to go on
    assert again.counts["complete"] == 5


def test_a_cluster_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"Ray cannot be used at 'auto'"):
        sweep(request(tmp_path / "study", ray="auto"))
    assert main(["sweep", "ppo", "rltrain/CartPole-v1", "--ray"]) == 2
    assert "'--ray' needs a value" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
