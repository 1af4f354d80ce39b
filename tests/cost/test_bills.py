"""What a run has cost stands in its metadata, over all sessions, and a limit ends it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_prices import SMALL, written

import rltrain
from rltrain.cli import main
from rltrain.config import CostConfig
from rltrain.cost.meter import Meter, as_words
from rltrain.errors import ConfigError
from rltrain.runs.layout import list_checkpoints

CARTPOLE = "rltrain/CartPole-v1"
QUICK: dict[str, Any] = {
    "num_envs": 4,
    "num_threads": 1,
    "n_eval_episodes": 0,
    "trackers": [],
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}
WORDS = [
    "--num-envs",
    "4",
    "--num-threads",
    "1",
    "--n-eval-episodes",
    "0",
    "--trackers",
    "--agent.n-steps",
    "16",
    "--agent.batch-size",
    "64",
    "--agent.n-epochs",
    "1",
    "--total-timesteps",
    "256",
]
DEAR = {"price_per_hour": 3.6e6, "currency": "EUR", "watts": 1000.0}  # 1,000 EUR and 1,000 J a second


def metadata_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "metadata.json").read_text())


def test_a_meter_counts_time_money_and_energy() -> None:
    meter = Meter(CostConfig(**DEAR), machines=2.0)
    meter.load_state_dict({"seconds": 10.0})
    bill = meter.bill()
    assert bill["seconds"] >= 10.0
    assert bill["money"] == pytest.approx(2_000 * bill["seconds"], rel=1e-3)
    assert bill["energy_kwh"] == pytest.approx(2_000 * bill["seconds"] / 3.6e6, rel=1e-3)
    assert bill["estimate"] is True
    assert meter.is_spent(1_000.0)
    assert not meter.is_spent(1e9)
    assert not meter.is_spent(None)


def test_a_meter_without_prices_knows_seconds_alone() -> None:
    bill = Meter(CostConfig()).bill()
    assert bill["seconds"] >= 0.0
    assert bill["money"] is bill["energy_kwh"] is bill["currency"] is None
    assert as_words(bill) == ""


@pytest.mark.parametrize("cost", [{}, {"money": "1", "energy_kwh": [], "seconds": None}, {"money": True}])
def test_a_bill_that_is_none_says_nothing(cost: dict[str, Any]) -> None:
    assert as_words(cost) == ""


def test_a_run_keeps_its_bill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prices = written(tmp_path, SMALL)
    words = ["train", "ppo", CARTPOLE, *WORDS, "--prices", str(prices), "--machine", "desk"]
    assert main([*words, "--run-dir", str(tmp_path)]) == 0
    assert "EUR by prices of 2026-11-01" in capsys.readouterr().out
    run = next(tmp_path.rglob("metadata.json")).parent
    cost = metadata_of(run)["cost"]
    assert (cost["machine"], cost["price_per_hour"], cost["currency"]) == ("desk", 0.5, "EUR")
    assert cost["money"] == pytest.approx(0.5 * cost["seconds"] / 3600)
    assert cost["energy_kwh"] == pytest.approx(100 * cost["seconds"] / 3.6e6, rel=1e-2)
    assert cost["seconds"] >= metadata_of(run)["seconds"]
    assert main(["show", str(run)]) == 0
    assert "kWh by watts of the file of prices" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "EUR by prices of 2026-11-01" in (tmp_path / "page.html").read_text()


def test_a_limit_ends_a_run_that_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    result = rltrain.train("ppo", CARTPOLE, run_dir=tmp_path, total_timesteps=10**8, max_cost=300.0, cost=DEAR, **QUICK)
    assert result.stopped_by == "max_cost"
    assert 300.0 <= result.cost["money"] < 30_000.0
    assert list_checkpoints(result.run_dir / "checkpoints")
    spent = result.cost["money"]
    with pytest.raises(ConfigError, match=r"has cost .* EUR, and max_cost is 300. Give a larger --max-cost"):
        rltrain.resume(result.run_dir, progress=False)
    again = rltrain.resume(result.run_dir, progress=False, max_cost=spent + 200.0)
    assert again.stopped_by == "max_cost"
    assert again.steps >= result.steps  # starting again costs too
    assert again.cost["money"] >= spent + 200.0  # over both sessions
    last = rltrain.resume(result.run_dir, progress=False, max_cost=1e9, total_timesteps=again.steps + 64)
    assert last.stopped_by == "total_timesteps"
    assert metadata_of(result.run_dir)["cost"]["money"] > again.cost["money"]


def test_a_limit_needs_a_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "ppo", CARTPOLE, *WORDS, "--run-dir", str(tmp_path)]
    assert main([*words, "--max-cost", "5"]) == 2
    assert "max_cost=5 needs the price of an hour." in capsys.readouterr().err
    assert main([*words, "--max-cost", "-5"]) == 2
    assert main([*words, "--machine", "desk"]) == 2
    assert "Give --prices FILE too" in capsys.readouterr().err
    assert main([*words, "--prices"]) == 2
    assert main(["resume", "nowhere", "--max-cost", "much"]) == 2
    assert "'much' is not a number above 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_seeds_that_train_together_share_the_machine(tmp_path: Path) -> None:
    results = rltrain.train_seeds("ppo", CARTPOLE, 2, run_dir=tmp_path, total_timesteps=256, cost=DEAR, **QUICK)
    bills = [result.cost for result in results.values() if isinstance(result, rltrain.RunResult)]
    assert [bill["machines"] for bill in bills] == [0.5, 0.5]
