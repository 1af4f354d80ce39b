"""Compares what SAC and Stable-Baselines3's SAC learn in equally many steps with the same hyperparameters.

    python -m benchmarks.sac_learning --seeds 10
    python -m benchmarks.sac_learning --seeds 5 --env Hopper-v5

Hyperparameters are Stable-Baselines3's defaults with RL Zoo's step size for Pendulum: one environment, a gradient step
for every environment step. Options that Stable-Baselines3 does not have are off. On Pendulum, ours learns in the tensor
environment, Stable-Baselines3 in Gymnasium's. MuJoCo's Hopper is Gymnasium's on both sides (``pip install
'gymnasium[mujoco]'``). What is printed and kept: see ``benchmarks/equal_steps.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch

import rltrain
from benchmarks.equal_steps import EPISODES, compare, learned_by_ours, learned_by_sb3
from rltrain.agents.sac.config import SACConfig

STEPS = {"Pendulum-v1": 10_000, "Hopper-v5": 50_000}
LEARNING_RATES = {"Pendulum-v1": 1e-3, "Hopper-v5": 3e-4}
WITHOUT_MUJOCO = ["Pendulum-v1"]
DEFAULTS = SACConfig().model_dump()  # Stable-Baselines3's
SETTINGS: dict[str, Any] = {"learning_rates": LEARNING_RATES}


def main() -> None:
    """Runs missing seeds, prints a Markdown table, plots the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds [10]")
    parser.add_argument("--env", choices=[*STEPS], action="append", help=f"{WITHOUT_MUJOCO}")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    only = parsed.env or WITHOUT_MUJOCO
    compare("SAC", "sac_learning", SETTINGS, STEPS, (train_ours, train_sb3), seeds=parsed.seeds, only=only)


def train_ours(name: str, steps: int, seed: int) -> dict[str, float]:
    """Trains ours."""
    with tempfile.TemporaryDirectory() as folder:
        result = rltrain.train(
            "sac",
            f"rltrain/{name}" if name in WITHOUT_MUJOCO else name,
            progress=False,
            run_dir=folder,
            seed=seed,
            total_timesteps=steps,
            num_envs=1,
            num_threads=1,
            save_freq=0,
            n_eval_episodes=EPISODES,
            agent={**DEFAULTS, "learning_rate": LEARNING_RATES[name]},
        )
    return learned_by_ours(result)


def train_sb3(name: str, steps: int, seed: int) -> dict[str, float]:
    """Trains Stable-Baselines3's."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env(name, 1, seed=seed)
    model = SAC("MlpPolicy", env, LEARNING_RATES[name], device="cpu", seed=seed)
    return learned_by_sb3(model, steps, make_vec_env(name, 8, seed=10_000 + seed))


if __name__ == "__main__":
    main()
