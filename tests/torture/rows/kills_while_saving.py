"""Row 2: kill -9 at random moments of saving, of replays in many segments too."""

from __future__ import annotations

import random
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rltrain
from rltrain.runs.layout import step_of
from rltrain.runs.verify import find_fault
from tests.torture.frame import Case, Outcome, Row
from tests.torture.killing import assert_same, kill, saved, small, start, until, words
from tests.torture.works import WORKS, place

KILLS, IN_A_ROW = 200, 10
BIG: dict[str, Any] = {
    "buffer_size": 12_000,  # of 5 MB, in five segments; goes round
    "learning_starts": 256,
    "batch_size": 16,
    "train_freq": 1,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [16]},
}
STACK = 32
"""Observations of a pendulum in one, so that a replay of them is as large."""
KINDS = {  # the environment, and the settings
    "dqn": ("rltrain/MinAtar-Breakout-v1", {"agent": BIG, "save_freq": 640}),
    "sac": ("rltrain/Pendulum-v1", {"agent": BIG, "save_freq": 640, "env": {"frame_stack": STACK}}),
    "ppo": (
        "rltrain/MinAtar-Breakout-v1",
        {"agent": {**small("ppo"), "n_steps": 4, "normalize_obs": False}, "save_freq": 256},
    ),
}
OPTIONS: dict[str, Any] = {
    "total_timesteps": 10_000_000,
    "num_envs": 64,
    "num_threads": 1,
    "n_eval_episodes": 0,
    "trackers": [],
    "device": "cpu",
    "keep_checkpoints": 3,
}


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Runs that are killed and resumed, ten times each; four of five have a large replay."""
    for number in range(1 if short else KILLS // IN_A_ROW):
        algo = ("dqn", "sac", "ppo", "dqn", "sac")[number % 5]
        seed = rng.randrange(2**31)
        kills = 1 if short else IN_A_ROW
        yield f"{algo} {number} x {kills}", lambda folder, a=algo, s=seed, k=kills: killed(folder, a, s, k)
    for name in ("data split",) if short else WORKS:
        kills, seed = 2 if short else IN_A_ROW, rng.randrange(2**31)
        yield f"{name} x {kills}", lambda folder, n=name, s=seed, k=kills: killed_at_work(folder, n, s, k)


def killed(folder: Path, algo: str, seed: int, kills: int) -> Outcome:
    """Kills a run again and again, and compares what it comes to with a run that was left alone."""
    chance = random.Random(seed)
    env, settings = KINDS[algo]
    run = folder / "killed" / env.replace("/", "-") / f"{algo}_1"
    options = {**OPTIONS, **settings}
    command = words("train", algo, env, **options, run_dir=folder / "killed")
    for _ in range(kills):
        before = step_of(saved(run)[-1]) if run.exists() else -1
        process = start(command)
        until(process, lambda before=before: saved(run) and step_of(saved(run)[-1]) > before)
        time.sleep(0.3 * chance.random())
        assert kill(process), "it ended by itself"
        faults = [fault for path in saved(run) if (fault := find_fault(path)) is not None]
        assert not faults, faults[0]
        command = words("resume", run)
    target = step_of(saved(run)[-1]) + 320

    class Stop(rltrain.Callback):
        def on_update(self, trainer: Any, metrics: Any) -> None:
            if trainer.global_step >= target:
                trainer.stop()

    rltrain.resume(run, progress=False, callbacks=[Stop()])
    assert not list((run / "checkpoints").glob(".*")), "something half written was left"
    straight = rltrain.train(
        algo,
        env,
        progress=False,
        callbacks=[Stop()],
        run_dir=folder / "straight",
        **as_of_python({**options, "save_freq": 0}),
    )
    assert_same(run, straight.run_dir)
    return Outcome(True, figures={"kills": float(kills)})


def killed_at_work(folder: Path, name: str, seed: int, kills: int) -> Outcome:
    """Kills a command that writes, at any moment; what it leaves is whole, and it does its work again."""
    chance, work = random.Random(seed), WORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = folder / "whole"
        for _ in range(2):  # the second time nothing has to be imported
            shutil.rmtree(whole, ignore_errors=True)
            place(whole)
            before, began = work.left(whole), time.monotonic()
            said = work.run(whole)
            seconds = time.monotonic() - began
            assert said.code == 0, said.err
        wanted, times = work.left(whole), 0
        assert wanted not in (None, before), "it left nothing"
        for number in range(kills):
            here = place(folder / str(number))
            process = start(work.line.split(), here)
            time.sleep(seconds * chance.random())
            times += kill(process)
            left = work.left(here)
            assert left in (None, before, wanted), "something half done was left"
            if left != wanted or name == "data delete":  # which removes what is left of the old version
                said = work.run(here)
                assert said.code == 0 or left == wanted, said.err
                assert work.left(here) == wanted, "it comes to something else"
            litter = [path.name for path in here.rglob(".*") if path.name.startswith((".writing", ".new-", ".removed"))]
            assert not litter, litter
            shutil.rmtree(here)
    return Outcome(True, figures={"kills": float(times)})


def as_of_python(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the command line as :func:`rltrain.train` takes them."""
    return {"env_options" if name == "env" else name: value for name, value in options.items()}


ROW = Row(
    2,
    "kill -9 at random moments of saving, big replays included, and of all else that writes",
    "older ones whole, none half written used, resumed to the same bytes",
    cases,
    {"^(?!(dqn|sac|ppo) )": 8},  # other commands than training
    seconds=1_800.0,
    summary=lambda figures: f"{sum(f.get('kills', 0) for f in figures):.0f} kills",
)
