"""Measures what starting from another task's policy buys, and where it buys nothing.

    python -m benchmarks.transfer
    python -m benchmarks.transfer --only CartPole --seeds 5

Each case trains a policy of a source task (seed 100), and then the target task with 5 seeds: afresh, from that policy
as far as it fits, and in further ways, always with the settings that ship for the source. A target is evaluated ten
times while it learns. The table has the median and the range over the seeds of the mean of those ten evaluations, which
says how early it learned, and of the last one. Figures are kept in ``benchmarks/results`` after every run, and
runs that are kept are not repeated.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import rltrain
from benchmarks import cases, store
from benchmarks.seeds import spread
from rltrain.registry import env_spec
from rltrain.settings import tuned_defaults

SOURCE_SEED = 100
EVALUATIONS, EPISODES = 10, 50
FRESH = "fresh"


@dataclass(frozen=True)
class Case:
    """A transfer between two tasks.

    Attributes:
        source: Environment id of the first task.
        target: Environment id of the second.
        before: Steps in the first.
        after: Steps in the second.
        ways: Options of the second by the name of the way; ``init_from`` and ``teacher`` take the source's run.
        env_kwargs: Constructor arguments of the second.
    """

    source: str
    target: str
    before: int
    after: int
    ways: dict[str, dict[str, Any]]
    env_kwargs: dict[str, Any] = field(default_factory=dict)


START: dict[str, Any] = {"init_from": True}
CASES = {
    "CartPole, pole of three times the length": Case(
        "rltrain/CartPole-v1",
        "rltrain/CartPole-v1",
        100_000,
        40_000,
        {"start": START, "start, value fresh": {**START, "reset": ["value"]}, "teacher": {"teacher": True}},
        {"length": 1.5},
    ),
    "MiniGrid DoorKey, 5x5 to 8x8": Case(
        "rltrain/MiniGrid-DoorKey-5x5-v0",
        "rltrain/MiniGrid-DoorKey-8x8-v0",
        500_000,
        1_000_000,
        {"start": START, "start, slow first layers": {**START, "learning_rate_scale": {"encoder": 0.1, "pi.0": 0.1}}},
    ),
    "MinAtar, Breakout to SpaceInvaders": Case(
        "rltrain/MinAtar-Breakout-v1", "rltrain/MinAtar-SpaceInvaders-v1", 1_000_000, 500_000, {"start": START}
    ),
    "MinAtar, Breakout to Freeway": Case(
        "rltrain/MinAtar-Breakout-v1", "rltrain/MinAtar-Freeway-v1", 1_000_000, 500_000, {"start": START}
    ),
}


def main() -> None:
    """Runs what is missing and prints a Markdown table."""
    parsed = cases.options(__doc__)
    kept = store.load("transfer")
    print("| task | policy | mean over training: median (range) | at the end: median (range) |")
    print("| --- | --- | --- | --- |")
    for name, case in CASES.items():
        if parsed.only and parsed.only not in name:
            continue
        runs = kept.setdefault(name, {"steps": case.after, "torch": torch.__version__.partition("+")[0], "runs": {}})
        measure(case, runs["runs"], parsed.seeds, lambda: store.save("transfer", kept))
        for way, by_seed in runs["runs"].items():
            early = spread([mean(scores) for scores in by_seed.values()], "{:.3g}")
            late = spread([scores[-1] for scores in by_seed.values()], "{:.3g}")
            print(f"| {name} | {way} | {early} | {late} |", flush=True)


def measure(case: Case, runs: dict[str, dict[str, list[float]]], seeds: int, save: Any) -> None:
    """Adds the evaluations of missing runs, by way and seed."""
    with tempfile.TemporaryDirectory() as folder:
        source: Path | None = None
        for way, options in {FRESH: {}, **case.ways}.items():
            for seed in map(str, range(seeds)):
                if seed in runs.setdefault(way, {}):
                    continue
                if source is None:
                    options_of_source = {"seed": SOURCE_SEED, "total_timesteps": case.before, "n_eval_episodes": 0}
                    source = train(case, case.source, folder, options_of_source)
                given = {key: str(source) if value is True else value for key, value in options.items()}
                run = train(
                    case,
                    case.target,
                    folder,
                    {
                        **given,
                        "seed": int(seed),
                        "total_timesteps": case.after,
                        "eval_freq": case.after // EVALUATIONS,
                        "n_eval_episodes": EPISODES,
                        "env_kwargs": {**tuned(case).get("env", {}).get("kwargs", {}), **case.env_kwargs},
                    },
                )
                runs[way][seed] = cases.evaluations(run)
                save()


def tuned(case: Case) -> dict[str, Any]:
    """The shipped settings of the source, which the target is trained with too."""
    return tuned_defaults("ppo", env_spec(case.source))[0]


def train(case: Case, env: str, folder: str, options: dict[str, Any]) -> Path:
    """Trains PPO, and returns the run folder."""
    settings = {name: value for name, value in tuned(case).items() if name != "env"}
    kwargs = tuned(case).get("env", {}).get("kwargs", {})
    given = {"env_kwargs": kwargs, **settings, **options, "progress": False, "run_dir": folder, "save_freq": 0}
    return rltrain.train("ppo", env, **given).run_dir


if __name__ == "__main__":
    main()
