"""Environments whose steps take long: whoever waits sees that something goes on."""

from __future__ import annotations

import io
import re
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium import spaces

import rltrain
from rltrain.adapters.progress import Hanging, make_places
from rltrain.tracker import RunInfo, Tracker
from rltrain.trackers.console import ConsoleTracker


class Simulator(gymnasium.Env[Any, Any]):
    """A step takes a sixth of a second."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(1 / 6)
        return self.observation_space.low, 1.0, False, False, {}


class Advances(Tracker):
    """Notes the steps that it is shown."""

    seen: list[int] = []  # noqa: RUF012

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.seen.append(-step)  # a log point

    def advance(self, step: int) -> None:
        self.seen.append(step)


@pytest.mark.usefixtures("clean_registries")
@pytest.mark.parametrize(
    ("algo", "agent"),
    [
        ("ppo", {"n_steps": 10, "batch_size": 10, "n_epochs": 1}),
        ("dqn", {"train_freq": 1, "learning_starts": 100}),  # which logs after a thousand steps
        ("sb3/ppo", {"n_steps": 10, "batch_size": 10, "n_epochs": 1}),
    ],
)
def test_steps_are_shown_while_they_are_collected(algo: str, agent: dict[str, Any], tmp_path: Path) -> None:
    rltrain.register_tracker("advances", Advances, description="Notes the steps.")
    Advances.seen.clear()
    rltrain.train(
        algo,
        Simulator,
        agent=agent,
        num_envs=1,
        total_timesteps=10,
        n_eval_episodes=0,
        trackers=["advances"],
        run_dir=tmp_path,
        device="cpu",
    )
    shown = [step for step in Advances.seen if step > 0]
    assert shown
    assert 4 <= shown[0] < 10, Advances.seen
    assert Advances.seen.index(shown[0]) == 0, "before the first log point"


def test_the_console_writes_a_line_though_nothing_was_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    tracker = ConsoleTracker(RunInfo(Path(), 1000, title="slow"), stream=stream)
    tracker.advance(10)
    assert "steps" not in stream.getvalue(), "not before some seconds have passed"
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock + 6)
    tracker.advance(30)
    tracker.advance(31)
    assert stream.getvalue().splitlines()[1:] == ["  30/1,000 steps   5 steps/s   eta 3:14"]


def test_the_console_writes_lines_while_an_update_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: 20 * clock())  # so that little of it has to be waited for
    tracker = ConsoleTracker(RunInfo(Path(), 1000, title="learns for long"), stream=stream)
    tracker.advance(10)
    until = clock() + 5
    while "ago" not in stream.getvalue() and clock() < until:
        time.sleep(0.05)
    tracker.close()
    assert re.search(r"  10/1,000 steps .*last step 0:\d\d ago\n", stream.getvalue())
    written = stream.getvalue()
    time.sleep(1.2)
    assert stream.getvalue() == written, "after the end it is silent"


def test_what_is_slow_in_every_step_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places, clock = make_places(1), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    hanging = Hanging(places, [range(4)], "Slow-v0")

    def pass_through(step: int, seconds: int) -> list[str]:
        places[0] = step
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(2 * seconds):
                hanging.warn(hanging.look())
                clock[0] += 0.5
        return [str(warning.message) for warning in caught]

    assert len(pass_through(4, 8)) == 1
    assert [pass_through(step, 8) for step in range(5, 12)] == [[]] * 7
    (warning,) = pass_through(12, 60)  # but what hangs afterwards is
    assert "Environment 0 of 'Slow-v0' has not answered for" in warning


def test_the_speed_includes_the_time_of_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    tracker = ConsoleTracker(RunInfo(Path(), 1000, title="learns slowly"), stream=stream)
    for step in range(100, 401, 100):
        for _ in range(4):  # a second of collecting, twenty of learning
            clock[0] += 0.25
            tracker.advance(step - 1)
        clock[0] += 20.0
        tracker.log({}, step)
    assert "400/1,000 steps   5 steps/s" in stream.getvalue()
