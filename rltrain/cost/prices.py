"""The user's own file of machines and prices, and the machine of it that a run is charged for."""

from __future__ import annotations

import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rltrain.config import CostConfig, Model
from rltrain.errors import ConfigError, did_you_mean
from rltrain.settings import YAML_LIMIT, load_yaml, validate
from rltrain.storage.files import Damaged, read_given, reason

Positive = Annotated[float, Field(gt=0)]


class DataSheet(Model):
    """An accelerator by its data sheet, for a bound that nobody has measured."""

    bytes_per_second: Positive
    """Memory bandwidth."""
    operations_per_second: Positive
    """Of float32."""
    seconds_per_launch: Positive = 4e-6
    """From one kernel that Python launches to the next."""


class Machine(Model):
    """A machine that can be had for a price."""

    price_per_hour: Annotated[float, Field(ge=0)]
    """In the currency of the file."""
    watts: Positive | None = None
    """Power while it trains."""
    relative_speed: Positive | None = None
    """How many times as fast it is as the machine called ``here``, as you measured it."""
    steps_per_second: dict[str, Positive] = Field(default_factory=dict)
    """Environment steps a second that you measured there, by agent and environment: ppo rltrain/CartPole-v1."""
    data_sheet: DataSheet | None = None
    """Its accelerator, where nothing was measured."""


class Prices(Model):
    """A file of prices."""

    currency: Annotated[str, Field(min_length=1, max_length=8)]
    """What prices are in, such as EUR."""
    date: datetime.date
    """The day on which they were looked up."""
    here: str | None = None
    """Which of the machines this one is."""
    machines: Annotated[dict[str, Machine], Field(min_length=1)]
    """Machines by name."""

    def machine(self, name: str | None) -> tuple[str, Machine]:
        """A machine and its name; that of ``here`` for None.

        Raises:
            ConfigError: There is no such machine, or the file does not say which one this is.
        """
        listing = f"The file has: {', '.join(self.machines)}."
        if name is None and self.here is None:
            raise ConfigError("The file of prices does not say which machine this is.", f"Give --machine. {listing}")
        wanted = self.here if name is None else name
        if wanted not in self.machines:
            fix = did_you_mean(str(wanted), self.machines, listing)
            raise ConfigError(f"There is no machine '{wanted}' in the file of prices.", fix)
        return str(wanted), self.machines[str(wanted)]


def read_prices(path: str | Path) -> Prices:
    """The prices in a YAML file.

    Raises:
        ConfigError: It cannot be read, or is no such file.
    """
    return validate(Prices, read_yaml(path, "file of prices", "rltrain estimate --example prices"))


def read_yaml(path: str | Path, what: str, example: str) -> dict[str, object]:
    """A YAML mapping in a file that the user names.

    Args:
        path: The file.
        what: What it should be, in words.
        example: The command that prints an example.

    Raises:
        ConfigError: It cannot be read, or is no mapping.
    """
    fix = f"'{example}' prints an example."
    try:
        text = read_given(Path(path), YAML_LIMIT)
    except (OSError, Damaged) as error:
        raise ConfigError(f"The {what} '{path}' cannot be read: {reason(error)}.", fix) from error
    data = load_yaml(text, f"The {what} '{path}'")
    if not isinstance(data, dict):
        raise ConfigError(f"The {what} '{path}' is no mapping.", fix)
    return {str(key): value for key, value in data.items()}


def charged(prices: Prices, name: str | None = None) -> CostConfig:
    """The settings of a run that is charged for a machine.

    Raises:
        ConfigError: There is no such machine.
    """
    name, machine = prices.machine(name)
    return CostConfig(
        machine=name,
        price_per_hour=machine.price_per_hour,
        currency=prices.currency,
        watts=machine.watts,
        date=prices.date.isoformat(),
    )


def example(name: str) -> str:
    """The example of a file: ``prices`` or ``worksheet``.

    Raises:
        ConfigError: There is no such example.
    """
    if name not in ("prices", "worksheet"):
        raise ConfigError(f"There is no example '{name}'.", "Known: prices, worksheet.")
    return (files("rltrain.cost") / f"example_{name}.yaml").read_text(encoding="utf-8")
