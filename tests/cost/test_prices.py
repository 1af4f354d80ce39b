"""A file of prices: what it says of a machine, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rltrain.cli import main
from rltrain.cost.prices import charged, example, read_prices
from rltrain.errors import ConfigError

SMALL = (
    "currency: EUR\ndate: 2026-11-01\nmachines: {desk: {price_per_hour: 0.5, watts: 100}, box: {price_per_hour: 2}}\n"
)


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text)
    return path


def test_the_example_is_one(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, example("prices")))
    cost = charged(prices)
    assert (cost.machine, cost.currency, cost.date) == (prices.here, "EUR", "2026-11-01")
    assert cost.price_per_hour == prices.machines["desk"].price_per_hour


def test_a_machine_is_charged_by_name(tmp_path: Path) -> None:
    prices = read_prices(written(tmp_path, SMALL))
    assert charged(prices, "box").price_per_hour == 2.0
    with pytest.raises(
        ConfigError, match=r"does not say which machine this is\. Give --machine. The file has: desk, box"
    ):
        charged(prices)
    with pytest.raises(ConfigError, match=r"no machine 'bxo' .* Did you mean 'box'"):
        charged(prices, "bxo")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- 1", "is no mapping"),
        ("currency: [", "is not valid YAML in line"),
        ("a: &a [*a]", "cannot be read|not valid YAML"),
        (SMALL.replace("price_per_hour: 2", "price_per_hour: -2"), "greater than or equal to 0"),
        (SMALL.replace("watts", "wats"), "no option 'machines.desk.wats'"),
        (SMALL.replace("date: 2026-11-01", "date: yesterday"), "date='yesterday' does not fit"),
        (SMALL.replace("date: 2026-11-01\n", ""), "'date' is missing"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        read_prices(written(tmp_path, text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*rltrain estimate --example prices"):
        read_prices(tmp_path / "none.yaml")


def test_the_examples_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["estimate", "--example", "prices"]) == 0
    read_prices(written(tmp_path, capsys.readouterr().out))
    assert main(["estimate", "--example", "worksheet"]) == 0
    sheet = tmp_path / "sheet.yaml"
    sheet.write_text(capsys.readouterr().out)
    assert main(["estimate", "--compare", str(sheet), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["ways"]) == {"own policy", "hosted model", "existing controller"}
    assert main(["estimate", "--example", "pries"]) == 2
    assert "Known: prices, worksheet" in capsys.readouterr().err
