"""Drift: what is seen, what is not, and how often nothing is taken for something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("river", reason="the extra 'drift' is not installed")

from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.data.drift import DriftConfig, drift_between
from rltrain.data.signals import episode_signals
from rltrain.data.writer import DatasetWriter
from rltrain.errors import ConfigError, DatasetError
from rltrain.settings import validate

SPACE = spaces.Dict({"speed": spaces.Box(-np.inf, np.inf, (2,)), "gear": spaces.Discrete(3)})


def make(
    path: Path,
    seed: int,
    episodes: int = 100,
    *,
    speed: float = 0.0,
    from_episode: int = 0,
    gear: bool = False,
    **facts: Any,
) -> Dataset:
    """Episodes whose steps depend on each other; ``speed`` is added to one number from an episode on."""
    rng, lengths = np.random.default_rng(seed), np.full(episodes, 20)
    own = np.repeat(rng.normal(size=(episodes, 2)), 20, axis=0)  # of an episode, so that its steps are alike
    moved = np.repeat(np.arange(episodes) >= from_episode, 20) * speed
    columns = {
        "obs.speed": (own + 0.1 * rng.normal(size=own.shape) + np.stack([moved, 0 * moved], 1)).astype(np.float32),
        "obs.gear": np.full(len(own), 2) if gear else rng.integers(0, 3, len(own)),
        "action": rng.integers(0, 2, len(own)),
        "reward": rng.normal(size=len(own)).astype(np.float32),
        "terminated": np.arange(len(own)) % 20 == 19,
        "truncated": np.zeros(len(own), bool),
    }
    with DatasetWriter(path, SPACE, spaces.Discrete(2), facts=facts) as writer:
        finals = {name: columns[name][19::20] for name in ("obs.speed", "obs.gear")}
        writer.add(columns, lengths, finals)
    return Dataset.open(path)


def test_signals_are_those_of_episodes(tmp_path: Path) -> None:
    dataset = make(tmp_path / "data", 0, 4)
    signals = episode_signals(dataset)
    choices = [f"obs.gear = {n}" for n in range(3)] + ["action = 0", "action = 1"]
    numbers = ["obs.speed[0]", "obs.speed[0] deviation", "obs.speed[1]", "obs.speed[1] deviation"]
    assert sorted(signals) == sorted([*choices, *numbers, "return", "length"])
    episode = dataset.episode(2)
    speed = episode["obs.speed"][:-1].astype(np.float64)
    assert signals["obs.speed[1]"][2] == pytest.approx(speed[:, 1].mean())
    assert signals["obs.speed[0] deviation"][2] == pytest.approx(speed[:, 0].std())
    assert signals["action = 1"][2] == pytest.approx(episode["action"].mean())
    assert signals["return"][2] == pytest.approx(episode["reward"].sum(), rel=1e-5)
    assert signals["length"].tolist() == [20.0] * 4


@pytest.mark.parametrize("detector", ["adwin", "kswin", "page-hinkley"])
def test_a_shift_is_seen_and_named(detector: Any, tmp_path: Path) -> None:
    reference = make(tmp_path / "reference", 0)
    current = make(tmp_path / "current", 1, speed=2.0, from_episode=30)
    found = drift_between(reference, current, DriftConfig(detector=detector))
    assert {each.signal for each in found.alarms} == {"obs.speed[0]"}
    (alarm,) = found.alarms
    assert 30 <= alarm.episode < 80
    assert alarm.shift == pytest.approx(1.4, abs=0.4)
    assert (found.signals, found.reference, found.current) == (11, 100, 100)


def test_a_choice_that_is_gone_and_a_constant_that_moved(tmp_path: Path) -> None:
    reference, current = make(tmp_path / "reference", 0), make(tmp_path / "current", 1, gear=True)
    gears = {f"obs.gear = {n}" for n in range(3)}
    assert {each.signal for each in drift_between(reference, current).alarms} == gears
    assert drift_between(current, reference).alarms  # from a constant to something else too


def test_nothing_is_seldom_taken_for_something(tmp_path: Path) -> None:
    datasets = [make(tmp_path / str(seed), seed, 60) for seed in range(12)]
    for detector in ("adwin", "kswin", "page-hinkley"):
        config = DriftConfig(detector=detector)
        alarms = [bool(drift_between(datasets[0], each, config).alarms) for each in datasets[1:]]
        assert sum(alarms) <= 1, detector


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    reference = make(tmp_path / "reference", 0)
    with pytest.raises(DatasetError, match="has 10 episodes, and drift is not seen in fewer than 20"):
        drift_between(reference, make(tmp_path / "few", 1, 10))
    with DatasetWriter(tmp_path / "other", spaces.Discrete(3), spaces.Discrete(2)) as writer:
        flags = np.ones(1, bool)
        rest = {"action": np.zeros(1, int), "reward": np.zeros(1), "terminated": flags, "truncated": ~flags}
        writer.add({"obs": np.zeros(1, int), **rest}, [1], {"obs": np.zeros(1, int)})
    with pytest.raises(DatasetError, match="has observations of"):
        drift_between(reference, Dataset.open(tmp_path / "other"))
    unpaid = make(tmp_path / "unpaid", 1, rewards_missing=3)
    assert drift_between(reference, unpaid).not_watched.startswith("return and length: rewards are missing")
    with pytest.raises(ValueError, match="adwin has no threshold"):
        DriftConfig(threshold=3.0)


def test_the_command_line(tmp_path: Path, capfd: Any) -> None:
    for name, speed in (("reference", 0.0), ("same", 0.0), ("moved", 3.0)):
        make(tmp_path / name, len(name), speed=speed)
    paths = {name: str(tmp_path / name) for name in ("reference", "same", "moved")}
    assert main(["drift", paths["reference"], paths["same"]]) == 0
    assert capfd.readouterr().out == "no drift: 0 of 11 signals; 100 episodes against 100\n"
    assert main(["drift", paths["reference"], paths["moved"]]) == 1
    assert "obs.speed[0]: " in (out := capfd.readouterr().out)
    assert "DRIFT: 1 of 11 signals" in out
    assert main(["drift", paths["reference"], paths["moved"], "--watch", "action", "return", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["signals"] == 4
    assert main(["drift", paths["reference"], paths["moved"], "--detector", "adwins"]) == 2
    assert "adwin" in capfd.readouterr().err
    assert main(["drift", paths["reference"], paths["moved"], "--threshold", "9"]) == 2
    assert "adwin has no threshold" in capfd.readouterr().err
    assert main(["drift", paths["reference"], str(tmp_path / "nowhere")]) == 4


def test_a_mistake_is_said_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="delta"):
        validate(DriftConfig, {"delta": 2})
