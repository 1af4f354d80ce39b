"""Whether what a policy meets, does and earns has changed since a reference was recorded; the only file with river."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from rltrain.config import Model
from rltrain.data.dataset import Dataset
from rltrain.data.signals import WATCHED, Watched, episode_signals
from rltrain.errors import DatasetError
from rltrain.naming.installed import need
from rltrain.spaces import first_unlike

FEWEST = 20
"""Episodes that each side must have at least."""


class DriftConfig(Model):
    """How drift is looked for."""

    detector: Literal["adwin", "kswin", "page-hinkley"] = "adwin"
    """Of river: ADWIN sees changes of a mean, KSWIN of a distribution, Page-Hinkley gradual ones of a mean."""
    delta: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.01
    """Chance of a false alarm over all signals together that ADWIN and KSWIN aim at."""
    threshold: Annotated[float, Field(gt=0.0)] = 50.0
    """Page-Hinkley: sum of deviations from the mean, in standard deviations of the reference."""
    least_shift: Annotated[float, Field(ge=0.0)] = 0.3
    """Least shift of the mean, in standard deviations of the reference, that is an alarm."""
    watch: Annotated[list[Watched], Field(min_length=1)] = Field(default_factory=lambda: list(WATCHED))
    """What is watched: observations, actions, and return and length of episodes."""

    @model_validator(mode="after")
    def _has_effect(self) -> DriftConfig:
        """Refuses what the detector does not have."""
        other = "delta" if self.detector == "page-hinkley" else "threshold"
        if other in self.model_fields_set:
            raise ValueError(f"{self.detector} has no {other}")
        return self


@dataclass(frozen=True)
class Alarm:
    """A signal that has changed.

    Attributes:
        signal: Its name.
        episode: The episode of the current dataset at which it was noticed.
        before: Mean over the reference.
        now: Mean over the current dataset.
        shift: Their difference in standard deviations of the reference.
    """

    signal: str
    episode: int
    before: float
    now: float
    shift: float


@dataclass(frozen=True)
class Drift:
    """What a comparison has found.

    Attributes:
        alarms: What has changed, the largest shift first.
        signals: How many signals were watched.
        reference: Episodes of the reference.
        current: Episodes of the current dataset.
        not_watched: What could not be watched, and why; empty if all was.
    """

    alarms: list[Alarm]
    signals: int
    reference: int
    current: int
    not_watched: str = ""


def drift_between(reference: Dataset, current: Dataset, config: DriftConfig | None = None) -> Drift:
    """Compares two datasets, episode by episode in their order.

    The signals of :func:`~rltrain.data.signals.episode_signals` are scaled by mean and deviation of the reference. A
    detector sees those of the reference first and then the current ones; an alarm is one that it raises among these.
    The error that it allows is divided by the number of signals.

    Args:
        reference: Episodes from when all was well, with the same policy.
        current: Episodes of now, in the order of time.
        config: How to look.

    Raises:
        ConfigError: river is not installed.
        DatasetError: They have other spaces, or too few episodes.
    """
    config = config or DriftConfig()
    need("river", install="rltrain[drift]")
    both = [(each.observation_space, each.action_space) for each in (reference, current)]
    if (unlike := first_unlike(*both)) is not None:
        what, one, other = unlike
        raise DatasetError(
            f"'{reference.path}' has {what} of {one}, and '{current.path}' of {other}.",
            "Compare datasets of the same environment.",
        )
    for each in (reference, current):
        if len(each.episodes) < FEWEST:
            raise DatasetError(
                f"'{each.path}' has {len(each.episodes)} episodes, and drift is not seen in fewer than {FEWEST}.",
                "Record or collect more.",
            )
    watch, not_watched = config.watch, ""
    if "return" in watch and (unknown := [each for each in (reference, current) if _lacks_rewards(each)]):
        watch = [name for name in watch if name != "return"]
        not_watched = f"return and length: rewards are missing in '{unknown[0].path}'"
    old, new = episode_signals(reference, watch), episode_signals(current, watch)
    alarms = []
    for name, before in old.items():
        mean, deviation = float(before.mean()), float(before.std())
        scale = max(deviation, 1e-6 * abs(mean), 1e-9)
        now = float(new[name].mean())
        if abs(now - mean) / scale < config.least_shift and config.detector != "kswin":
            continue  # no detector of means is asked where there is no shift to speak of
        seen = [np.clip((values - mean) / scale, -10.0, 10.0) for values in (before, new[name])]
        at = _first_alarm(_detector(config, len(old), len(new[name])), *seen)
        if at is not None:
            alarms.append(Alarm(name, at, mean, now, (now - mean) / scale))
    alarms.sort(key=lambda each: -abs(each.shift))
    return Drift(alarms, len(old), len(reference.episodes), len(current.episodes), not_watched)


def _lacks_rewards(dataset: Dataset) -> bool:
    return bool(dataset.manifest.get("rewards_missing", 0))


def _first_alarm(detector: Any, before: np.ndarray, now: np.ndarray) -> int | None:
    """The place among the current values at which a detector first raises an alarm."""
    for value in before.tolist():
        detector.update(value)
    for place, value in enumerate(now.tolist()):
        detector.update(value)
        if detector.drift_detected:
            return place
    return None


def _detector(config: DriftConfig, signals: int, values: int) -> Any:
    from river import drift

    share = config.delta / signals
    make: dict[str, Callable[[], Any]] = {
        "adwin": lambda: drift.ADWIN(delta=share, clock=1),
        # It compares the last 30 values with 30 of those before at every value, so the error is divided by those too.
        "kswin": lambda: drift.KSWIN(alpha=share / values, window_size=100, stat_size=30, seed=0),
        "page-hinkley": lambda: drift.PageHinkley(threshold=config.threshold),
    }
    return make[config.detector]()
