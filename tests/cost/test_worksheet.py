"""The worksheet computes with the numbers of a file, and says what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rltrain.cli import main
from rltrain.cost.prices import example
from rltrain.cost.worksheet import Worksheet, as_text, compare, read_worksheet
from rltrain.errors import ConfigError


def sheet(ways: dict[str, dict[str, Any]], **more: Any) -> Worksheet:
    return Worksheet.model_validate({"currency": "EUR", "decisions_per_day": 1_000, "days": 10, "ways": ways, **more})


COSTS = {
    "own": {"once": 100, "per_day": 1, "per_decision": 0},
    "hosted": {"once": 0, "per_day": 0, "per_decision": 0.011},
}


def test_costs_and_the_day_of_break_even() -> None:
    compared = compare(sheet(COSTS))
    assert compared["ways"]["own"]["cost"] == 110
    assert compared["ways"]["hosted"]["cost"] == pytest.approx(110)
    assert compared["ways"]["hosted"]["per_decision"] == pytest.approx(0.011)
    (pair,) = compared["break_even"]
    assert (pair["way"], pair["against"], pair["counts"]) == ("own", "hosted", "cost")
    assert pair["days"] == pytest.approx(10)  # where both have cost 110


def test_value_counts_if_both_say_it() -> None:
    ways = {
        name: {**way, "value_per_decision": value}
        for (name, way), value in zip(COSTS.items(), (0.02, 0.03), strict=True)
    }
    compared = compare(sheet(ways))
    assert compared["ways"]["own"]["net"] == pytest.approx(200 - 110)
    (pair,) = compared["break_even"]
    assert (pair["days"], pair["counts"]) == (None, "cost and value")  # 10 a day more gained than is saved
    del ways["own"]["value_per_decision"]
    (pair,) = compare(sheet(ways))["break_even"]
    assert pair["counts"] == "cost"
    assert compare(sheet(ways))["ways"]["own"]["net"] is None


def test_nothing_is_guessed() -> None:
    compared = compare(sheet({"own": {"once": 100}, "hosted": {"per_decision": 0.01}}, max_latency_ms=5))
    assert compared["break_even"] == []
    assert compared["ways"]["own"]["cost"] is None
    assert compared["ways"]["own"]["latency"] == "unknown"
    assert "per_decision" in compared["ways"]["own"]["missing"]
    assert "no two ways of which one starts dearer" in as_text(compared)


@pytest.mark.parametrize(("sends", "said"), [(True, "may not leave"), (False, "ok"), (None, "unknown")])
def test_data_that_may_not_leave(sends: bool | None, said: str) -> None:
    ways: dict[str, dict[str, Any]] = {"a": {"sends_data": sends}, "b": {}}
    assert compare(sheet(ways, data="secret", may_leave=["public"]))["ways"]["a"]["data"] == said
    assert compare(sheet(ways, data="public", may_leave=["public"]))["ways"]["a"]["data"] == "ok"


def test_a_way_that_is_too_slow() -> None:
    ways = {"a": {"latency_ms": 6}, "b": {"latency_ms": 5}}
    compared = compare(sheet(ways, max_latency_ms=5))
    assert [way["latency"] for way in compared["ways"].values()] == ["too slow", "ok"]


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sheet.yaml"
    data = yaml.safe_load(example("worksheet"))
    for change, why in [
        ({"data": None}, "'data' and 'may_leave' belong together"),
        ({"data": "sensitive"}, "data='sensitive' does not fit"),
        ({"decision_per_day": 1}, "no option 'decision_per_day'"),
        ({"ways": {"one": {}}}, "at least 2"),
    ]:
        path.write_text(yaml.safe_dump({**data, **change}))
        with pytest.raises(ConfigError, match=why):
            read_worksheet(path)
    assert main(["estimate", "--compare", str(path)]) == 2
    assert main(["estimate", "--compare", str(tmp_path / "none.yaml")]) == 2
    assert "rltrain estimate --example worksheet" in capsys.readouterr().err


def test_names_cannot_command_a_terminal() -> None:
    assert "\x1b" not in as_text(compare(sheet({"a\x1b[31m": {}, "b": {}})))
