"""Compares what DQN and Stable-Baselines3's DQN learn in equally many steps with the same hyperparameters.

    python -m benchmarks.dqn_learning --seeds 10

Options that Stable-Baselines3 does not have are off. Ours learns in tensor environments, Stable-Baselines3's in equally
many of Gymnasium's through its ``DummyVecEnv``. A score is the mean return of 100 new episodes of the final policy. It
prints interquartile means over the seeds, the difference of the means, and bootstrap 95% intervals (Agarwal et al.
2021, arXiv:2108.13264). The scores are plotted to ``benchmarks/results/dqn_learning.png`` and kept beside it. Seeds
that are kept are not run again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

import rltrain
from benchmarks import store

RUNS: dict[str, dict[str, Any]] = {
    "CartPole-v1": {"total_timesteps": 50_000},
    "Acrobot-v1": {"total_timesteps": 100_000},
}
NUM_ENVS = 8
AGENT: dict[str, Any] = {
    "buffer_size": 50_000,
    "learning_starts": 1_000,
    "batch_size": 128,
    "train_freq": 16,
    "gradient_steps": 64,
    "target_update_interval": 500,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.02,
    "n_steps": 5,
}
LEARNING_RATE = 2e-3  # falling linearly to 0
EPISODES = 100
SIDES = ("ours", "Stable-Baselines3")


def main() -> None:
    """Runs missing seeds, prints a Markdown table, plots the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds [10]")
    parser.add_argument("--env", choices=[*RUNS], action="append", help="[all]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    kept = store.load("dqn_learning")
    if kept.get("agent") != AGENT or kept.get("machine") != store.machine():
        kept = {
            "agent": AGENT,
            "machine": store.machine(),
            "runs": {name: {side: {} for side in SIDES} for name in RUNS},
        }
    print("| environment | steps | seeds | ours: IQM | SB3: IQM | ours - SB3: mean | % of SB3's | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in parsed.env or RUNS:
        runs, steps = kept["runs"][name], RUNS[name]["total_timesteps"]
        for seed in map(str, range(parsed.seeds)):
            for side, train in zip(SIDES, (train_ours, train_sb3), strict=True):
                if seed not in runs[side]:
                    runs[side][seed] = train(name, steps, int(seed))
                    store.save("dqn_learning", kept)
        scores = [np.array([run["score"] for run in runs[side].values()]) for side in SIDES]
        ours, theirs = (interval(iqm, each) for each in scores)
        difference = interval(lambda a, b: float(a.mean() - b.mean()), *scores)
        share = ", ".join(f"{100 * value / abs(scores[1].mean()):+.1f}" for value in difference[1:])
        seconds = " / ".join(f"{median(run['seconds'] for run in runs[side].values()):.1f}" for side in SIDES)
        cells = (shown(ours), shown(theirs), shown(difference), f"({share})", seconds)
        print(f"| {name} | {steps:,} | {len(scores[0])} | {' | '.join(cells)} |", flush=True)
    draw(kept["runs"], store.RESULTS / "dqn_learning.png")


def train_ours(name: str, steps: int, seed: int) -> dict[str, float]:
    """Trains ours."""
    with tempfile.TemporaryDirectory() as folder:
        result = rltrain.train(
            "dqn",
            f"rltrain/{name}",
            progress=False,
            run_dir=folder,
            seed=seed,
            total_timesteps=steps,
            num_envs=NUM_ENVS,
            num_threads=1,
            n_eval_episodes=EPISODES,
            agent={
                **AGENT,
                "learning_rate": f"lin_{LEARNING_RATE}",
                "policy_kwargs": {"net_arch": [64, 64], "layer_norm": False},
            },
        )
    assert result.evaluation is not None
    return {"score": result.evaluation.mean_reward, "seconds": result.seconds}


def train_sb3(name: str, steps: int, seed: int) -> dict[str, float]:
    """Trains Stable-Baselines3's."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    env = make_vec_env(name, NUM_ENVS, seed=seed)
    model = DQN("MlpPolicy", env, lambda left: LEARNING_RATE * left, device="cpu", seed=seed, **AGENT)
    begin = time.perf_counter()
    model.learn(steps)
    seconds = time.perf_counter() - begin
    fresh = make_vec_env(name, NUM_ENVS, seed=10_000 + seed)
    score, _ = evaluate_policy(model, fresh, n_eval_episodes=EPISODES)
    return {"score": float(score), "seconds": seconds}


def iqm(scores: np.ndarray) -> float:
    """The mean of the middle half."""
    cut = len(scores) // 4
    return float(np.sort(scores)[cut : len(scores) - cut].mean())


def interval(statistic: Callable[..., float], *samples: np.ndarray) -> tuple[float, float, float]:
    """A statistic of samples, and its bootstrap 95% interval; each sample is resampled independently."""
    rng = np.random.default_rng(0)
    drawn = [statistic(*(rng.choice(sample, len(sample)) for sample in samples)) for _ in range(10_000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return statistic(*samples), float(low), float(high)


def shown(values: tuple[float, float, float]) -> str:
    """A statistic with its interval."""
    return "{:.1f} ({:.1f} to {:.1f})".format(*values)


def draw(runs: dict[str, Any], path: Path) -> None:
    """Every seed's score as a dot, side by side."""
    figure, axes = plt.subplots(1, len(runs), figsize=(4 * len(runs), 3.2), layout="constrained")
    for axis, (name, sides) in zip(axes, runs.items(), strict=True):
        for x, side in enumerate(SIDES):
            scores = [run["score"] for run in sides[side].values()]
            axis.plot(x + np.linspace(-0.12, 0.12, len(scores)), scores, "o", alpha=0.6)
            if scores:
                axis.hlines(iqm(np.array(scores)), x - 0.2, x + 0.2, color="black")
        axis.set(
            title=f"DQN on {name}, {RUNS[name]['total_timesteps']:,} steps", ylabel="mean return", xlim=(-0.5, 1.5)
        )
        axis.set_xticks(range(len(SIDES)), SIDES)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
