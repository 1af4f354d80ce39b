"""Figures are kept with the settings they depend on, and merged only where these agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import seeds, stepping, store


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "RESULTS", tmp_path)
    return tmp_path


def run(seed: int, score: float) -> dict[str, Any]:
    return {"seed": seed, "steps": 10, "seconds": 1.0, "stopped_by": "", "evaluation": {"mean_reward": score}}


def kept(options: list[str], *runs: dict[str, Any]) -> list[int]:
    return [one["seed"] for one in seeds.save("ppo", "rltrain/CartPole-v1", options, list(runs))]


def test_seeds_join_those_made_alike() -> None:
    assert kept([], run(0, 1.0), run(1, 2.0)) == [0, 1]
    assert kept([], run(2, 3.0)) == [0, 1, 2]
    assert kept([], run(1, 5.0)) == [0, 1, 2]
    assert [one["evaluation"]["mean_reward"] for one in store.load("ppo/CartPole-v1")["runs"]] == [1.0, 5.0, 3.0]
    assert store.load("ppo/CartPole-v1")["settings"]["num_envs"] == 128


@pytest.mark.parametrize("other", ["options", "settings", "machine"])
def test_seeds_made_otherwise_replace_them(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept([], run(0, 1.0)) == [0]
    if other == "settings":
        monkeypatch.setattr(seeds, "tuned_defaults", lambda algo, env: ({"num_envs": 2}, "a file that changed"))
    if other == "machine":
        monkeypatch.setattr(store, "machine", lambda: {"processor": "another"})
    assert kept(["--num-envs", "2"] if other == "options" else [], run(1, 2.0)) == [1]


def test_environments_are_chosen_by_words() -> None:
    assert stepping.chosen(["cartpole-V1", "pendulum-v1"]) == ["rltrain/CartPole-v1", "rltrain/Pendulum-v1"]
    assert len(stepping.chosen([])) > len(stepping.chosen(["minigrid", "minatar"])) > 20
