"""The trial of a run, and what it says about machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rltrain.cli import main
from rltrain.cloud import estimate
from rltrain.cloud.estimate import parts_of, project
from rltrain.cloud.trial import Timer, Trial
from rltrain.config import TrainConfig
from rltrain.cost.prices import Prices
from rltrain.settings import build_config

CARTPOLE = "rltrain/CartPole-v1"
TRIAL = Trial(
    steps_per_second=1_000.0,
    slowest=800.0,
    fastest=1_250.0,
    updates=50,
    left_out=3,
    seconds=5.0,
    steps_per_update=100,
    startup_seconds=2.0,
    compile_seconds=3.0,
    save_seconds=0.5,
    evaluation_seconds=4.0,
    memory_bytes=10**9,
    accelerator_bytes=None,
    kwh=None,
    device="cpu",
)
QUICK = [
    "--num-envs",
    "4",
    "--num-threads",
    "1",
    "--agent.n-steps",
    "16",
    "--agent.batch-size",
    "64",
    "--agent.n-epochs",
    "1",
    "--n-eval-episodes",
    "2",
    "--eval-max-steps",
    "20",
]


def config_of(**more: Any) -> TrainConfig:
    return build_config("ppo", CARTPOLE, {"total_timesteps": 100_000, "save_freq": 50_000, **more})[0]


def prices_of(**machines: dict[str, Any]) -> Prices:
    here = {"price_per_hour": 3_600.0, "watts": 3_600.0}
    return Prices.model_validate(
        {"currency": "EUR", "date": "2026-11-01", "here": "desk", "machines": {"desk": here, **machines}}
    )


def test_a_run_is_the_sum_of_its_parts() -> None:
    parts = parts_of(config_of(eval_freq=40_000), TRIAL)
    assert parts == {"startup": 2.0, "compilation": 3.0, "training": 100.0, "checkpoints": 1.5, "evaluations": 12.0}
    assert parts_of(config_of(n_eval_episodes=0, save_freq=0), replace(TRIAL, evaluation_seconds=None)) == {
        **parts,
        "checkpoints": 0.5,
        "evaluations": 0.0,
    }


def test_money_and_energy_here() -> None:
    (here,) = project(config_of(), TRIAL, prices_of(), None)
    assert here.seconds == pytest.approx(110.5)
    assert here.money == pytest.approx(110.5)  # 1 EUR and 3,600 J a second
    assert here.energy_kwh == pytest.approx(0.1105)
    assert (here.low, here.high) == (pytest.approx(90.5), pytest.approx(135.5))
    (asked,) = project(config_of(), replace(TRIAL, kwh=36.0), prices_of(), None)  # codecarbon rather than the file
    assert asked.energy_kwh == pytest.approx(1.105)
    (alone,) = project(config_of(), TRIAL, None, None)
    assert (alone.money, alone.energy_kwh) == (None, None)


def test_other_machines_say_what_their_figure_is_worth() -> None:
    sheet = {"bytes_per_second": 1e12, "operations_per_second": 1e13}
    found = project(
        config_of(num_envs=64, agent={"n_steps": 8, "batch_size": 256}),
        TRIAL,
        prices_of(
            twice={"price_per_hour": 1.0, "relative_speed": 2.0},
            tried={"price_per_hour": 1.0, "relative_speed": 9.0, "steps_per_second": {f"ppo {CARTPOLE}": 10_000}},
            other={"price_per_hour": 1.0, "steps_per_second": {"dqn x": 10_000}},
            sheet={"price_per_hour": 1.0, "data_sheet": sheet},
        ),
        None,
    )
    by_name = {each.machine: each for each in found}
    assert by_name["twice"].seconds == pytest.approx(60.5)
    assert by_name["twice"].worth == estimate.RATIO
    assert by_name["tried"].seconds == pytest.approx(20.5)
    assert by_name["tried"].worth == estimate.MEASURED
    assert (by_name["other"].seconds, by_name["other"].worth) == (None, estimate.UNKNOWN)
    assert by_name["sheet"].worth == estimate.BOUND
    assert 0.0 < (by_name["sheet"].seconds or 0.0) < 100.0
    assert by_name["twice"].energy_kwh is None


def test_a_relative_speed_is_relative_to_here() -> None:
    here = {"price_per_hour": 1.0, "relative_speed": 2.0}
    found = project(config_of(), TRIAL, prices_of(desk=here, box={"price_per_hour": 1.0, "relative_speed": 4.0}), None)
    assert (found[1].seconds or 0.0) == pytest.approx(60.5)


def test_an_environment_that_cannot_be_counted_is_said_to_be() -> None:
    sheet = {"bytes_per_second": 1e12, "operations_per_second": 1e13}
    config, _ = build_config("ppo", "CartPole-v1", {"total_timesteps": 1_000})
    found = project(config, TRIAL, prices_of(sheet={"price_per_hour": 1.0, "data_sheet": sheet}), None)
    assert found[1].seconds is None
    assert found[1].worth.startswith("unknown: the run cannot be counted.")


def test_the_warm_up_and_all_compilation_are_left_out() -> None:
    timer = Timer(10.0)
    compiled = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    timer.marks = [(float(i), 100 * i, seconds) for i, seconds in enumerate(compiled)]
    assert [mark[0] for mark in timer.measured()] == [3.0, 4.0, 5.0]
    timer.marks = [(20.0 * i, 100 * i, 0.0) for i in range(3)]  # updates that take long
    assert len(timer.measured()) == 2


def test_a_trial_is_made_and_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["estimate", "ppo", CARTPOLE, *QUICK, "--seconds", "0.3", "--total-timesteps", "1000000"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    trial = facts["trial"]
    assert trial["steps_per_update"] == 64
    assert trial["left_out"] >= 2
    assert 0.3 <= trial["seconds"] < 5.0
    assert trial["slowest"] <= trial["steps_per_second"] <= trial["fastest"]
    assert trial["memory_bytes"] > 10**7
    assert trial["evaluation_seconds"] > 0.0
    assert facts["seconds_here"]["training"] == pytest.approx(1e6 / trial["steps_per_second"])
    assert facts["machines"][0]["seconds"] == pytest.approx(sum(facts["seconds_here"].values()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algo", ["dqn", "sac"])
def test_agents_that_wait_before_they_learn_learn_in_the_trial(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    env = CARTPOLE if algo == "dqn" else "rltrain/Pendulum-v1"
    few = ["--num-envs", "4", "--num-threads", "1", "--n-eval-episodes", "0", "--agent.buffer-size", "200000"]
    words = ["estimate", algo, env, *few, "--agent.learning-starts", "100000000", "--seconds", "0.2"]
    assert main([*words, "--json"]) == 0
    trial = json.loads(capsys.readouterr().out)["trial"]
    assert trial["steps_per_second"] < 200_000  # as it would be if it only collected
    assert trial["evaluation_seconds"] is None
    assert main(words) == 0
    assert "with the replay full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--seconds", "0"], "--seconds 0 is no time to measure"),
        (["--seconds", "long"], "--seconds long is no time to measure"),
        (["--num-seeds", "2"], "--num-seeds trains several"),
        (["--prices", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
        (["--total-timestep", "9"], "There is no option 'total_timestep'"),
    ],
)
def test_mistakes_are_told(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "ppo", CARTPOLE, *words]) == 2
    assert why in capsys.readouterr().err


def test_a_trial_that_is_interrupted_says_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "rltrain", "estimate", "ppo", CARTPOLE, "--seconds", "600", "--num-envs", "4"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not [*tmp_path.glob("rltrain-trial-*/*/*/progress.csv")]:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
