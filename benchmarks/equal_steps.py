"""Compares what an agent and Stable-Baselines3's learn in equally many steps, seed by seed.

A score is the mean return of 100 new episodes of the final policy. Interquartile means over the seeds and bootstrap 95%
intervals are those of Agarwal et al. (2021), arXiv:2108.13264. Scores are kept in ``benchmarks/results`` after every
run, and seeds that are kept are not run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from benchmarks import store
from rltrain import RunResult
from rltrain.evaluation.statistics import iqm

EPISODES = 100
SIDES = ("ours", "Stable-Baselines3")
Train = Callable[[str, int, int], dict[str, float]]
"""From the environment, the steps and the seed to the ``score`` and the ``seconds`` it took."""


def compare(
    title: str,
    figures: str,
    settings: Any,
    steps: Mapping[str, int],
    trainers: tuple[Train, Train],
    *,
    seeds: int,
    only: Sequence[str] | None = None,
) -> None:
    """Runs missing seeds, prints a Markdown table, plots the scores.

    Args:
        title: Name of the agent in the picture.
        figures: Name of the files in ``benchmarks/results``.
        settings: What both sides have in common; figures of other settings are discarded.
        steps: Environment steps by environment.
        trainers: Ours and Stable-Baselines3's.
        seeds: How many, from 0 on.
        only: The environments to run; all if None.
    """
    kept = store.load(figures)
    if kept.get("agent") != settings or kept.get("machine") != store.machine():
        kept = {"agent": settings, "machine": store.machine(), "runs": {}}
    print("| environment | steps | seeds | ours: IQM | SB3: IQM | ours - SB3: mean | % of SB3's | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in only or steps:
        runs = kept["runs"].setdefault(name, {side: {} for side in SIDES})
        for seed in map(str, range(seeds)):
            for side, train in zip(SIDES, trainers, strict=True):
                if seed not in runs[side]:
                    runs[side][seed] = train(name, steps[name], int(seed))
                    store.save(figures, kept)
        scores = [np.array([run["score"] for run in runs[side].values()]) for side in SIDES]
        ours, theirs = (interval(lambda each: float(iqm(each)), score) for score in scores)
        difference = interval(lambda a, b: float(a.mean() - b.mean()), *scores)
        share = ", ".join(f"{100 * value / abs(scores[1].mean()):+.1f}" for value in difference[1:])
        seconds = " / ".join(f"{median(run['seconds'] for run in runs[side].values()):.1f}" for side in SIDES)
        cells = (shown(ours), shown(theirs), shown(difference), f"({share})", seconds)
        print(f"| {name} | {steps[name]:,} | {len(scores[0])} | {' | '.join(cells)} |", flush=True)
    draw(title, kept["runs"], steps, figures)


def learned_by_ours(result: RunResult) -> dict[str, float]:
    """The figures of a run of ours that has evaluated its policy at the end."""
    assert result.evaluation is not None
    return {"score": result.evaluation.mean_reward, "seconds": result.seconds}


def learned_by_sb3(model: Any, steps: int, fresh: Any) -> dict[str, float]:
    """Trains a model of Stable-Baselines3 and evaluates it in environments that it has not seen; the figures."""
    from stable_baselines3.common.evaluation import evaluate_policy

    begin = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begin
    score, _ = evaluate_policy(model, fresh, n_eval_episodes=EPISODES)
    return {"score": float(score), "seconds": seconds}


def interval(statistic: Callable[..., float], *samples: np.ndarray) -> tuple[float, float, float]:
    """A statistic of samples, and its bootstrap 95% interval; each sample is resampled independently."""
    rng = np.random.default_rng(0)
    drawn = [statistic(*(rng.choice(sample, len(sample)) for sample in samples)) for _ in range(10_000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return statistic(*samples), float(low), float(high)


def shown(values: tuple[float, float, float]) -> str:
    """A statistic with its interval."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*values)


def draw(title: str, runs: dict[str, Any], steps: Mapping[str, int], figures: str) -> None:
    """Every seed's score as a dot, side by side."""
    figure, axes = plt.subplots(1, len(runs), figsize=(4 * len(runs), 3.2), layout="constrained", squeeze=False)
    for axis, (name, sides) in zip(axes[0], runs.items(), strict=True):
        for x, side in enumerate(SIDES):
            scores = [run["score"] for run in sides[side].values()]
            axis.plot(x + np.linspace(-0.12, 0.12, len(scores)), scores, "o", alpha=0.6)
            if scores:
                axis.hlines(float(iqm(scores)), x - 0.2, x + 0.2, color="black")
        axis.set(title=f"{title} on {name}, {steps[name]:,} steps", ylabel="mean return", xlim=(-0.5, 1.5))
        axis.set_xticks(range(len(SIDES)), SIDES)
    figure.savefig(store.RESULTS / f"{figures}.png", dpi=110)
