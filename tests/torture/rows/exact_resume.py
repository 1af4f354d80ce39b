"""Row 1: a run that was killed at any moment and resumed ends as one that was not."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import rltrain
from rltrain.errors import ConfigError
from rltrain.registry import agent_specs
from rltrain.runs.layout import step_of
from rltrain.settings import build_config
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup
from tests.torture.frame import Case, Outcome, Row
from tests.torture.killing import ALIASES, assert_same, kill, no_warnings, saved, small, start, until, words

ENVS = (
    *("CartPole-v1", "MinAtar-Breakout-v1", "TaxiMasked-v4", "FrozenLake-v1", "Acrobot-v1", "Pendulum-v1"),
    *("MountainCar-v0", "MinAtar-Asterix-v1", "MountainCarContinuous-v0", "BipedalWalker-v3"),
)
MOMENTS = 5
OPTIONS: dict[str, Any] = {
    "total_timesteps": 1_600,
    "num_envs": 8,
    "num_threads": 1,
    "seed": 5,
    "save_freq": 200,
    "n_eval_episodes": 0,
    "log_interval": 2,
    "trackers": [],
    "device": "cpu",
}


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Every agent in environments of six kinds at five moments; then seeds as one batch, and ranks."""
    moments = 1 if short else MOMENTS
    algos = [*(name for name in agent_specs() if "/" not in name), *ALIASES]
    for algo in ("rainbow",) if short else algos:
        for env in envs_of(algo)[: 1 if short else 6]:
            for _ in range(moments):
                moment = round(rng.random(), 4)
                yield f"{algo} {env} {moment}", lambda folder, a=algo, e=env, m=moment: one(folder, a, e, m)
    for algo, env in (("ppo", "Pendulum-v1"), ("pqn", "CartPole-v1"))[: 1 if short else 2]:
        for _ in range(moments):
            moment = round(rng.random(), 4)
            yield f"seeds {algo} {env} {moment}", lambda folder, a=algo, e=env, m=moment: seeds(folder, a, e, m)
    for algo in () if short else ("ppo", "dqn", "rainbow"):
        for _ in range(moments):
            moment = round(rng.random(), 4)
            yield f"ranks {algo} {moment}", lambda folder, a=algo, m=moment: one(folder, a, "CartPole-v1", m, nproc=2)


def envs_of(algo: str) -> list[str]:
    """The environments of the list that an agent can be trained in."""
    found = []
    for env in ENVS:
        name = ALIASES.get(algo, algo)
        try:
            config, _ = build_config(name, f"rltrain/{env}", {**OPTIONS, "agent": small(algo)})
            Setup.build(RunRequest(config)).close()
        except ConfigError:
            continue
        found.append(env)
    return found


def one(folder: Path, algo: str, env: str, moment: float, nproc: int = 1) -> Outcome:
    """A single run, on one rank or several."""
    name, options = ALIASES.get(algo, algo), {**OPTIONS, "agent": small(algo)}
    if env == "CartPole-v1":
        options |= {"eval_freq": 600, "n_eval_episodes": 2}
    straight, run = (folder / part / f"rltrain-{env}" / f"{name}_1" for part in ("straight", "killed"))
    command = words("train", name, f"rltrain/{env}", **options, nproc=nproc, run_dir=folder / "straight")
    process = start(command)
    until(process, lambda: False)
    assert process.exitcode == 0, f"left with {process.exitcode}"
    process = start(words("train", name, f"rltrain/{env}", **options, nproc=nproc, run_dir=folder / "killed"))
    wait(process, run, moment)
    killed = kill(process, run)
    if killed and nproc > 1:
        process = start(words("resume", run))
        until(process, lambda: False)
        assert process.exitcode == 0, f"left with {process.exitcode}"
    elif killed:
        with no_warnings():
            rltrain.resume(run, progress=False)
    assert_same(run, straight, nproc)
    return Outcome(True, figures={"killed": float(killed)})


def wait(process: BaseProcess, run: Path, moment: float) -> None:
    """Waits for a share of the steps, and a little longer, so that it is in the middle of anything."""
    wanted = moment * 0.75 * OPTIONS["total_timesteps"]
    until(process, lambda: saved(run) and step_of(saved(run)[-1]) >= wanted)
    time.sleep(moment * 1e3 % 1 * 0.05)


def seeds(folder: Path, algo: str, env: str, moment: float) -> Outcome:
    """Three seeds as one batch."""
    options = {**OPTIONS, "num_envs": 6, "agent": {**small(algo), "batch_size": 48}}
    rltrain.train_seeds(algo, f"rltrain/{env}", 3, progress=False, run_dir=folder / "straight", **options)
    process = start(words("train", algo, f"rltrain/{env}", **options, num_seeds=3, run_dir=folder / "killed"))
    runs = [folder / "killed" / f"rltrain-{env}" / f"{algo}_{k}" for k in (1, 2, 3)]
    wait(process, runs[-1], moment)
    killed = kill(process, *runs)
    if killed:
        with no_warnings():
            rltrain.resume_seeds(runs, progress=False)
    for run in runs:
        assert_same(run, folder / "straight" / run.parent.name / run.name)
    return Outcome(True, figures={"killed": float(killed)})


ROW = Row(
    1,
    "2N against N, kill -9, resume, N: agents x environments x moments, seeds as one batch, ranks",
    "all to the same bytes",
    cases,
    seconds=300.0,
    summary=lambda figures: f"{sum(f.get('killed', 0) for f in figures):.0f} were killed before their end",
)
