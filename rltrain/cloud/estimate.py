"""What a run will take, from a trial of it: seconds, memory, energy and money, here and on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rltrain.cloud.projection import bounds, counted
from rltrain.cloud.trial import Trial
from rltrain.config import TrainConfig
from rltrain.cost.meter import HOUR, KWH
from rltrain.cost.prices import Machine, Prices

TRIED = "from the trial here"
MEASURED = "from the steps a second that the file says were measured there"
RATIO = "the trial here by the relative speed in the file: as good as that number is for this run"
BOUND = "a bound by its data sheet: it will take longer, nobody has measured it"
UNKNOWN = "unknown: the file gives no speed; run rltrain estimate there"


@dataclass(frozen=True)
class Takes:
    """What a run takes on a machine.

    Attributes:
        machine: Its name.
        worth: Where the figure is from, and what it is worth.
        seconds: Of the whole run, without waiting for the machine; None where nothing tells.
        low: The same at the speed of the fastest part of the trial.
        high: The same at that of the slowest.
        energy_kwh: None where no power is known.
        money: None where no price is known.
        currency: Of the money.
    """

    machine: str
    worth: str
    seconds: float | None = None
    low: float | None = None
    high: float | None = None
    energy_kwh: float | None = None
    money: float | None = None
    currency: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def parts_of(config: TrainConfig, trial: Trial) -> dict[str, float]:
    """Seconds of a run here by what they are spent on, at the mean speed of the trial."""
    total = config.total_timesteps
    saves = 1 + (total // config.save_freq if config.save_freq else 0)
    evaluations = (1 if config.n_eval_episodes else 0) + (total // config.eval_freq if config.eval_freq else 0)
    return {
        "startup": trial.startup_seconds,
        "compilation": trial.compile_seconds,
        "training": total / trial.steps_per_second,
        "checkpoints": saves * trial.save_seconds,
        "evaluations": evaluations * (trial.evaluation_seconds or 0.0),
    }


def project(config: TrainConfig, trial: Trial, prices: Prices | None, here: str | None) -> list[Takes]:
    """What the run takes here, and on every other machine of a file.

    Args:
        config: The configuration of the run.
        trial: The trial.
        prices: The file; None for this machine alone.
        here: The name of this machine in the file.
    """
    parts = parts_of(config, trial)
    beside = sum(parts.values()) - parts["training"]
    total = config.total_timesteps
    spread = total / trial.fastest, parts["training"], total / trial.slowest
    if prices is None:
        low, mean, high = (beside + seconds for seconds in spread)
        energy = None if trial.kwh is None else trial.kwh * mean / HOUR
        return [Takes("this machine", TRIED, mean, low, high, energy)]
    name, own = prices.machine(here)
    found = [_on(name, own, prices, TRIED, beside, spread, trial.kwh)]
    for other, machine in prices.machines.items():
        if other != name:
            found.append(_elsewhere(other, machine, own, prices, config, beside, spread))
    return found


def _elsewhere(
    name: str,
    machine: Machine,
    own: Machine,
    prices: Prices,
    config: TrainConfig,
    beside: float,
    spread: Sequence[float],
) -> Takes:
    speed = machine.steps_per_second.get(f"{config.algo} {config.env.id}")
    if speed is not None:
        return _on(name, machine, prices, MEASURED, beside, [config.total_timesteps / speed] * 3)
    if machine.relative_speed is not None:
        ratio = machine.relative_speed / (own.relative_speed or 1.0)
        return _on(name, machine, prices, RATIO, beside, [seconds / ratio for seconds in spread])
    if machine.data_sheet is not None:
        try:
            found = counted(config)
        except Exception as error:  # of whatever does not run without data
            return Takes(name, f"unknown: the run cannot be counted. {error}".partition("\n")[0])
        least = max(bounds(found, machine.data_sheet, graphs=config.compile).values())
        seconds = least * config.total_timesteps / found["steps"]
        return _on(name, machine, prices, BOUND, 0.0, [seconds] * 3)
    return Takes(name, UNKNOWN)


def _on(
    name: str,
    machine: Machine,
    prices: Prices,
    worth: str,
    beside: float,
    spread: Sequence[float],
    kwh: float | None = None,
) -> Takes:
    """With the money and the energy of so many seconds."""
    low, mean, high = (beside + seconds for seconds in spread)
    energy = machine.watts * mean / KWH if machine.watts is not None else None
    if kwh is not None:
        energy = kwh * mean / HOUR
    return Takes(name, worth, mean, low, high, energy, machine.price_per_hour * mean / HOUR, prices.currency)
