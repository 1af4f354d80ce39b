"""Run folders as training leaves them, made without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rltrain.settings import build_config, to_yaml
from rltrain.storage.records import sealed
from rltrain.tracker import RunInfo
from rltrain.trackers.csv import CsvTracker

CARTPOLE, PENDULUM = "rltrain/CartPole-v1", "rltrain/Pendulum-v1"
BOX = {"type": "Box", "shape": [4], "dtype": "float32", "low": -1.0, "high": 1.0}


def make_run(
    path: Path,
    algo: str = "ppo",
    env: str = CARTPOLE,
    seed: int = 0,
    *,
    n: int = 20,
    score: float | None = None,
    slope: float = 10.0,
    metadata: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
) -> Path:
    """A run whose return grows from its seed on by ``slope`` in 1,000 steps, or 2 seconds; evaluated every 5,000."""
    path.mkdir(parents=True)
    config, _ = build_config(algo, env, {"seed": seed, "run_dir": str(path.parent), **(options or {})})
    (path / "config.yaml").write_text(to_yaml(config))
    record = {
        "mode": {"device": "cpu", "threads": 1},
        "total_timesteps": config.total_timesteps,
        "observation_space": BOX,
        "action_space": {"type": "Discrete", "n": 2, "start": 0},
        "versions": {"rltrain": "0.1.0", "torch": "2.13.0"},
        "command": f"rltrain train {algo} {env}",
        "git_commit": "0" * 40,
        "started": "2026-01-02T03:04:05+00:00",
        "status": "completed",
        "error": None,
        "steps": 1_000 * n,
        "seconds": 2.0 * n,
        "stopped_by": "total_timesteps",
        "evaluation": None if score is None else evaluation(score),
        **(metadata or {}),
    }
    (path / "metadata.json").write_text(sealed(json.loads(json.dumps(record))))
    (path / "checkpoints").mkdir()
    tracker = CsvTracker(RunInfo(path, 1_000))
    tracker.log({"time/fps": 1.0, "time/time_elapsed": 1.0}, 500)  # before any episode has finished
    for i in range(1, n + 1):
        logged = {"rollout/ep_rew_mean": slope * i + seed, "train/loss": 1 / i, "time/time_elapsed": 2.0 * i}
        tracker.log(logged, i * 1000)
        if i % 5 == 0:
            tracker.log({"eval/mean_reward": slope * i + 20}, i * 1000)
    tracker.close()
    return path


def evaluation(score: float) -> dict[str, Any]:
    """The summary of an evaluation with a mean return."""
    return {
        "mean_reward": score,
        "std_reward": 2.0,
        "min": score - 4,
        "max": score + 4,
        "iqm": score,
        "ci95": [score - 1, score + 1],
        "episodes": 16,
        "mean_ep_length": 100.0,
    }
