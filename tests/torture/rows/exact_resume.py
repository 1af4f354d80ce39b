"""Row 1: a run that was killed at any moment, or ended by a signal, and resumed ends as one that was not."""

from __future__ import annotations

import random
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import rltrain
from rltrain.errors import ConfigError
from rltrain.evaluation.limits import Limits
from rltrain.recording.recorder import record
from rltrain.registry import agent_specs
from rltrain.runs.layout import step_of
from rltrain.settings import build_config
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup
from tests.torture.commands import kept_folder
from tests.torture.frame import Case, Outcome, Row
from tests.torture.killing import (
    ALIASES,
    assert_same,
    interrupt,
    kill,
    name_of,
    no_warnings,
    saved,
    small,
    start,
    until,
    words,
)

ENVS = (
    *("CartPole-v1", "MinAtar-Breakout-v1", "TaxiMasked-v4", "FrozenLake-v1", "Acrobot-v1", "Pendulum-v1"),
    *("MountainCar-v0", "MountainCarContinuous-v0", "Reacher-v0", "CarParking-v0", "BatteryArbitrage-v0"),
    *("Portfolio-v0", "MinAtar-Asterix-v1", "BitFlip-v0"),
)
KINDS, MOMENTS = 6, 5
IN_BATCHES = (("ppo", "Pendulum-v1"), ("ppo", "CartPole-v1"), ("pqn", "CartPole-v1"), ("pqn", "Acrobot-v1"))
OF_RANKS = ("CartPole-v1", "Pendulum-v1", "BitFlip-v0")
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
    """Every agent in environments of six kinds, seeds as one batch, and ranks, each at five moments."""

    def moments() -> list[float]:
        return [round(rng.random(), 4) for _ in range(1 if short else MOMENTS)]

    algos = [*(name for name in agent_specs() if "/" not in name), *ALIASES]
    for algo in ("rainbow",) if short else algos:
        for env in envs_of(algo)[: 1 if short else KINDS]:
            yield f"{algo} {env}", partial(one, algo=algo, env=env, moments=moments())
    for algo, env in IN_BATCHES[: 1 if short else None]:
        yield f"seeds {algo} {env}", partial(seeds, algo=algo, env=env, moments=moments())
    if not short:
        for algo in algos:
            if learns_from_data(algo):  # in one process alone, and whatever the environment
                continue
            env = next(env for env in envs_of(algo) if env in OF_RANKS)
            yield f"ranks {algo} {env}", partial(one, algo=algo, env=env, moments=moments(), nproc=2)
            if algo != "hindsight":  # Gymnasium has no such environment
                yield f"said {algo} {env}", partial(said, algo=algo, env=env)


def learns_from_data(algo: str) -> bool:
    """Whether an agent learns from a dataset."""
    return agent_specs()[name_of(algo)].learns_from_data


@cache
def recorded(env: str) -> str:
    """A dataset of random episodes in an environment, which all cases share."""
    folder = kept_folder("torture-data-")
    return str(record(f"rltrain/{env}", folder / "data", episodes=20, limits=Limits(50, None)).path)


def data_for(algo: str, env: str) -> dict[str, Any]:
    """The option that names a dataset, for an agent that learns from one."""
    return {"data": recorded(env)} if learns_from_data(algo) else {}


@cache
def settings_of(algo: str, env: str) -> dict[str, Any] | None:
    """The agent's settings for an environment, which may have nothing to normalise; None if it cannot be trained."""
    for settings in (small(algo), {**small(algo), "normalize_obs": False}):
        with suppress(ConfigError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config, _ = build_config(
                name_of(algo), f"rltrain/{env}", {**OPTIONS, **data_for(algo, env), "agent": settings}
            )
            Setup.build(RunRequest(config)).close()
            return settings
    return None


def envs_of(algo: str) -> list[str]:
    """The environments of the list that an agent can be trained in."""
    return [env for env in ENVS if settings_of(algo, env) is not None]


def one(folder: Path, *, algo: str, env: str, moments: list[float], nproc: int = 1) -> Outcome:
    """A single run, on one rank or several."""
    name, options = name_of(algo), {**OPTIONS, **data_for(algo, env), "agent": settings_of(algo, env)}
    if env in ("CartPole-v1", "Pendulum-v1"):
        options |= {"eval_freq": 600, "n_eval_episodes": 2}

    def command(where: str) -> tuple[list[str], Path]:
        line = words("train", name, f"rltrain/{env}", **options, nproc=nproc, run_dir=folder / where)
        return line, folder / where / f"rltrain-{env}" / f"{name}_1"

    line, straight = command("straight")
    to_the_end(line)
    times = 0
    for number, moment in enumerate([*moments, moments[0]]):
        line, run = command(f"killed_{number}")
        process = start(line)
        wait(process, run, moment)
        if number == len(moments):  # once by a signal that is heard
            ended = interrupt(process, signal.SIGTERM if nproc > 1 or "ppo" in algo else signal.SIGINT)
        else:
            ended = kill(process, run)
            times += ended
        if ended:
            if nproc > 1:
                to_the_end(words("resume", run))
            else:
                with no_warnings():
                    rltrain.resume(run, progress=False)
        assert_same(run, straight, nproc)
    return Outcome(True, figures={"runs": float(len(moments)), "killed": float(times)})


def to_the_end(command: list[str]) -> None:
    """Runs a command line."""
    process = start(command)
    until(process, lambda: False)
    assert process.exitcode == 0, f"{command[0]} left with {process.exitcode}"


def wait(process: BaseProcess, run: Path, moment: float) -> None:
    """Waits for a share of the steps, and a little longer, so that it is in the middle of anything."""
    wanted = moment * 0.75 * OPTIONS["total_timesteps"]
    until(process, lambda: saved(run) and step_of(saved(run)[-1]) >= wanted)
    time.sleep(moment * 1e3 % 1 * 0.05)


def seeds(folder: Path, *, algo: str, env: str, moments: list[float]) -> Outcome:
    """Three seeds as one batch."""
    options = {**OPTIONS, "num_envs": 6, "agent": {**small(algo), "batch_size": 48}}
    rltrain.train_seeds(algo, f"rltrain/{env}", 3, progress=False, run_dir=folder / "straight", **options)
    times = 0
    for number, moment in enumerate(moments):
        place = folder / f"killed_{number}"
        process = start(words("train", algo, f"rltrain/{env}", **options, num_seeds=3, run_dir=place))
        runs = [place / f"rltrain-{env}" / f"{algo}_{k}" for k in (1, 2, 3)]
        wait(process, runs[-1], moment)
        if kill(process, *runs):
            times += 1
            with no_warnings():
                rltrain.resume_seeds(runs, progress=False)
        for run in runs:
            assert_same(run, folder / "straight" / run.parent.name / run.name)
    return Outcome(True, figures={"runs": float(len(moments)), "killed": float(times)})


def said(folder: Path, *, algo: str, env: str) -> None:
    """A run in Gymnasium's own environment, whose episodes cannot be saved: that is said, and the rest goes on."""
    options = {**OPTIONS, "total_timesteps": 800, "agent": small(algo), "save_freq": 400, "run_dir": folder}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = rltrain.train(name_of(algo), env, progress=False, **options).run_dir
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = rltrain.resume(run, progress=False, total_timesteps=1_200)
    assert result.steps >= 1_200, f"{result.steps} steps"
    assert any("start anew: its state cannot be saved" in str(each.message) for each in told), "nothing was said"


ROW = Row(
    1,
    "2N against N, kill -9, resume, N: agents x environments x moments, seeds as one batch, ranks",
    "all to the same bytes, and what cannot be restored is said",
    cases,
    {r"^(?!((seeds|ranks|said) )?(ppo|pqn|dqn|sac) )": 12},  # the other agents, and those of ALIASES
    seconds=1_800.0,
    summary=lambda figures: (
        f"{sum(f.get('killed', 0) for f in figures):.0f} runs killed before their end, "
        f"of {sum(f.get('runs', 0) for f in figures):.0f}"
    ),
)
