"""Versions in MLflow's registry too, in a database of SQLite: numbers, aliases, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from versions import scripted_run

pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")

import rltrain
from rltrain.cli import main
from rltrain.errors import RunError
from rltrain.model_registry.gate import Gate
from rltrain.model_registry.mlflow_copy import PLACE, MlflowCopy
from rltrain.model_registry.promotion import promote
from rltrain.model_registry.store import Registry

pytestmark = pytest.mark.usefixtures("scripted_known")


def test_register_name_and_bring_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, scripted_known: None
) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.chdir(tmp_path)
    Registry("models", "pay").register(scripted_run(tmp_path / "runs", 1.0))  # before there was a second place
    monkeypatch.setenv(PLACE, uri)
    monkeypatch.setenv("RLTRAIN_MODELS", "models")
    registry = Registry("models", "pay")
    promote(registry, Gate(episodes=2))
    registry.register(scripted_run(tmp_path / "runs", 2.0))

    client = MlflowClient(registry_uri=uri, tracking_uri=uri)
    theirs = client.get_registered_model("pay").aliases
    assert {
        alias: client.get_model_version("pay", number).tags["rltrain.version"] for alias, number in theirs.items()
    } == {
        "champion": "1",
        "challenger": "2",
    }
    version = client.get_model_version_by_alias("pay", "challenger")
    assert (version.tags["rltrain.algo"], version.tags["rltrain.env"]) == ("scripted", "test/Pay-v0")
    assert client.get_run(version.run_id).data.metrics["mean_reward"] == 4.0

    promote(registry, Gate(episodes=2))
    assert client.get_registered_model("pay").aliases == {"champion": version.version}
    assert registry.roll_back() == 1
    assert client.get_model_version_by_alias("pay", "champion").tags["rltrain.version"] == "1"

    assert main(["models", "fetch", "pay@2", "--out", "two"]) == 0
    assert rltrain.load("two").evaluate(2).mean_reward == 4.0
    assert main(["models", "fetch", "pay", "--out", "champion"]) == 0
    assert rltrain.load("champion").evaluate(2).mean_reward == 2.0
    assert main(["models", "mirror", "pay"]) == 0
    assert "MLflow has 2 versions of pay" in capfd.readouterr().out
    for words, said in (
        (["fetch", "pay@7", "--out", "x"], "MLflow has no version '7' of 'pay'"),
        (["fetch", "pay@canary", "--out", "x"], "MLflow has no version 'canary' of 'pay'"),
        (["fetch", "pay@2", "--out", "two"], "There is something at 'two' already."),
    ):
        assert main(["models", *words]) == 2
        assert said in capfd.readouterr().err

    (file,) = (tmp_path / "mlartifacts").rglob(f"{version.run_id}/**/config.yaml")
    file.write_text(file.read_text() + "\n")
    assert main(["models", "fetch", "pay@2", "--out", "x"]) == 4
    assert "'config.yaml' was changed" in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_place_that_does_not_answer_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted_known: None
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(PLACE, "http://127.0.0.1:9")
    registry = Registry(tmp_path / "models", "pay")
    with pytest.warns(UserWarning, match="rltrain models mirror pay"):
        assert registry.register(scripted_run(tmp_path / "runs")) == 1
    assert registry.state()["aliases"] == {"challenger": 1}
    with pytest.raises(RunError, match="MLflow at"):
        registry.copy()
    with pytest.raises(RunError):
        MlflowCopy("http://127.0.0.1:9", "pay").fetch("champion", tmp_path / "x")
