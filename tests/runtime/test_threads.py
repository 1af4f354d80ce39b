"""Several trainings in threads of one process learn what each learns alone, and a second one what the first did."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import rltrain

AGENTS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 32, "batch_size": 64, "n_epochs": 1},
    "dqn": {"learning_starts": 64, "buffer_size": 2048, "batch_size": 32, "train_freq": 4},
}
JOBS = [("ppo", "rltrain/CartPole-v1", 0), ("ppo", "CartPole-v1", 1), ("dqn", "rltrain/CartPole-v1", 2)]


def learned(job: tuple[str, str, int], run_dir: Path) -> tuple[str, float]:
    """A digest of the policy, and its score."""
    algo, env, seed = job
    options: dict[str, Any] = {"num_envs": 8, "total_timesteps": 512, "eval_freq": 256, "n_eval_episodes": 2}
    if not env.startswith("rltrain/"):
        options["env_options"] = {"vectorization": "sync"}
    result = rltrain.train(
        algo,
        env,
        seed=seed,
        run_dir=run_dir,
        progress=False,
        trackers=["csv"],
        device="cpu",
        agent=AGENTS[algo],
        **options,
    )
    newest = sorted((result.run_dir / "checkpoints").glob("step_*"))[-1]
    assert result.evaluation is not None
    return hashlib.sha256((newest / "policy.safetensors").read_bytes()).hexdigest(), result.evaluation.mean_reward


def test_threads_do_not_disturb_each_other(tmp_path: Path) -> None:
    alone = {job: learned(job, tmp_path) for job in JOBS}
    assert learned(JOBS[0], tmp_path) == alone[JOBS[0]]  # again, as in a notebook
    together: dict[Any, Any] = {}
    threads = [threading.Thread(target=lambda job=job: together.update({job: learned(job, tmp_path)})) for job in JOBS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
