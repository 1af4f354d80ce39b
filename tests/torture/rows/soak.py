"""Row 12: a long run with everything on grows nothing."""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import rltrain
from tests.torture.frame import Case, Outcome, Row
from tests.torture.killing import name_of, small

SECONDS = 1_800.0
OPTIONS: dict[str, Any] = {
    "total_timesteps": 10**9,
    "num_envs": 8,
    "num_threads": 1,
    "save_freq": 800,
    "keep_checkpoints": 2,
    "eval_freq": 1_600,
    "n_eval_episodes": 2,
    "eval_max_steps": 100,
    "video_freq": 16_000,
    "log_interval": 1,
    "trackers": ["csv", "tensorboard"],
    "device": "cpu",
}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the agent, the environment and its options
    "replay": ("rainbow", "rltrain/MinAtar-Breakout-v1", {}),
    "actions without end": ("sac", "rltrain/Pendulum-v1", {}),
    "memory": ("gru", "rltrain/CartPole-v1", {}),
    "workers": ("ppo", "CartPole-v1", {"vectorization": "async"}),
}


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """A run of each kind."""
    for kind in [*KINDS][: 1 if short else None]:
        yield kind, lambda folder, k=kind: soak(folder, *KINDS[k], 3.0 if short else SECONDS)


class Gauge(rltrain.Callback):
    """Looks at the process again and again, and stops the run when its time is up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = time.monotonic()
        self.process = psutil.Process()
        self.seen: list[tuple[float, dict[str, float]]] = []

    def on_update(self, trainer: Any, metrics: Any) -> None:
        now = time.monotonic() - self.began
        if not self.seen or now - self.seen[-1][0] > self.seconds / 200:
            family = [self.process, *self.process.children(recursive=True)]
            figures = {
                "MiB": sum(each.memory_info().rss for each in family) / 2**20,
                "descriptors": float(sum(each.num_fds() for each in family)),
                "threads": float(sum(each.num_threads() for each in family)),
                "children": float(len(family)),
            }
            self.seen.append((now, figures))
        if now > self.seconds:
            trainer.stop()


def soak(folder: Path, algo: str, env: str, env_options: dict[str, Any], seconds: float) -> Outcome:
    """Trains for some time and compares the last third with the third before."""
    gauge = Gauge(seconds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = rltrain.train(
            name_of(algo),
            env,
            env_options=env_options,
            progress=False,
            callbacks=[gauge],
            run_dir=folder,
            agent=small(algo),
            **OPTIONS,
        )
    third = len(gauge.seen) // 3
    assert third >= 5, f"looked only {len(gauge.seen)} times"
    before, after = gauge.seen[third : 2 * third], gauge.seen[2 * third :]
    grown = {}
    for name in before[0][1]:
        early, late = (statistics.median(figures[name] for _, figures in part) for part in (before, after))
        grown[name] = late - early
    for name in ("descriptors", "threads", "children"):
        assert grown[name] <= 0, f"{grown[name]:+.0f} {name}"
    minutes = (statistics.fmean(t for t, _ in after) - statistics.fmean(t for t, _ in before)) / 60
    most = (4.0 if minutes > 1 else 24.0) + 0.5 * minutes  # MiB: what an allocator keeps, most of it at the start
    assert grown["MiB"] <= most, f"{grown['MiB']:+.1f} MiB in {minutes:.1f} minutes"
    whole = (gauge.seen[-1][0] - gauge.seen[0][0]) / 60
    return Outcome(True, figures={"MiB": grown["MiB"], "minutes": whole, "steps": float(result.steps)})


def summary(figures: list[dict[str, float]]) -> str:
    """Growth from the second third of the time to the last."""
    parts = (
        f"{each['MiB']:+.1f} MiB in {each['minutes']:.1f} min and {each['steps']:,.0f} steps"
        for each in figures
        if "MiB" in each
    )
    return ", ".join(parts)


ROW = Row(
    12,
    "soak with everything on: memory, descriptors, threads, children",
    "flat from the second third of the time to the last",
    cases,
    seconds=3_600.0,
    jobs=len(KINDS),
    summary=summary,
)
