"""The meter of a run: seconds, energy and money, over all of its sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rltrain.config import CostConfig
from rltrain.cost.energy import EnergyTracker, Source
from rltrain.errors import ConfigError

HOUR = 3600.0  # s
KWH = 3.6e6  # J


class Meter:
    """Counts from when it is made: the set-up, training, evaluations and checkpoints of a session.

    A checkpoint holds what it has counted. What a killed session did after its last checkpoint is not counted.

    Args:
        config: Price and power of a machine.
        machines: How many machines the run has; a fraction where several runs share one.
        reads_energy: Whether this process is the one that asks codecarbon.
    """

    def __init__(self, config: CostConfig, machines: float = 1.0, *, reads_energy: bool = True) -> None:
        self.config, self.machines = config, machines
        self._began = time.perf_counter()
        self._before: dict[str, float] = {"seconds": 0.0, "energy_kwh": 0.0}
        self._tracker: Source | None = EnergyTracker() if config.energy and reads_energy else None

    @property
    def seconds(self) -> float:
        """Seconds by the clock, over all sessions."""
        return self._before["seconds"] + time.perf_counter() - self._began

    def _money(self, seconds: float) -> float | None:
        """In the currency of the prices; None without a price."""
        price = self.config.price_per_hour
        return None if price is None else price * self.machines * seconds / HOUR

    def is_spent(self, limit: float | None) -> bool:
        """Whether the run has cost so much."""
        if limit is None:
            return False
        money = self._money(self.seconds)
        return money is not None and money >= limit

    def _energy(self, seconds: float) -> tuple[float | None, str | None]:
        """Kilowatt hours of all machines, and where they are from; None where nothing tells.

        codecarbon looks at the whole machine of the first rank; the others are taken to be like it.
        """
        if self._tracker is not None:
            return self._before["energy_kwh"] + self._tracker.kwh() * self.machines, self._tracker.name
        if self.config.watts is not None:
            return self.config.watts * self.machines * seconds / KWH, "watts of the file of prices"
        return None, None

    def bill(self) -> dict[str, Any]:
        """What the run has cost so far, for ``metadata.json``. All of it is an estimate."""
        seconds, config = self.seconds, self.config
        kwh, source = self._energy(seconds)
        return {
            "estimate": True,
            "seconds": seconds,
            "machines": self.machines,
            "machine": config.machine,
            "price_per_hour": config.price_per_hour,
            "money": self._money(seconds),
            "currency": config.currency or None,
            "prices_of": config.date,
            "energy_kwh": kwh,
            "energy_from": source,
        }

    def state_dict(self) -> dict[str, float]:
        """What was counted so far, for a checkpoint."""
        seconds = self.seconds
        return {"seconds": seconds, "energy_kwh": self._energy(seconds)[0] or 0.0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on counting from there, or from more if that is known already."""
        for name, before in self._before.items():
            value = state.get(name, 0.0)
            self._before[name] = max(before, float(value)) if isinstance(value, int | float) else before

    def close(self) -> None:
        """Ends the reading of the energy."""
        if self._tracker is not None:
            self._tracker.close()


def check_cost(config: CostConfig, max_cost: float | None) -> None:
    """Refuses a limit without a price, and codecarbon where it is not installed.

    Raises:
        ConfigError: Something is missing.
    """
    if max_cost is not None and not config.price_per_hour:
        raise ConfigError(
            f"max_cost={max_cost:g} needs the price of an hour.", "Give --prices FILE, or --cost.price-per-hour."
        )
    if config.energy:
        EnergyTracker.check()


def check_spent(cost: Mapping[str, Any], max_cost: float | None, run: object) -> None:
    """Refuses to go on with a run that has cost what it may.

    Args:
        cost: The bill in its metadata.
        max_cost: What it may cost.
        run: The run.

    Raises:
        ConfigError: It has.
    """
    spent = cost.get("money")
    if max_cost is not None and isinstance(spent, int | float) and spent >= max_cost:
        raise ConfigError(
            f"'{run}' has cost {spent:.4g} {cost.get('currency') or ''}".rstrip() + f", and max_cost is {max_cost:g}.",
            "Give a larger --max-cost to go on.",
        )


def as_words(cost: Mapping[str, Any]) -> str:
    """A bill in a line; empty if it tells neither money nor energy.

    Args:
        cost: What :meth:`Meter.bill` returned, or what a file says in its place.
    """
    money, kwh, seconds = (
        value if type(value) in (int, float) else None for value in map(cost.get, ("money", "energy_kwh", "seconds"))
    )
    parts = []
    if money is not None:
        text = f"{money:.4g} {cost.get('currency') or ''}".rstrip()
        if cost.get("prices_of"):
            text += f" by prices of {cost['prices_of']}"
        parts.append(text)
    if kwh is not None:
        parts.append(f"{kwh:.3g} kWh by {cost.get('energy_from')}")
    if parts and seconds is not None:
        parts.append(f"{seconds:,.0f} s in all")
    return f"{', '.join(parts)} (estimates)" if parts else ""
