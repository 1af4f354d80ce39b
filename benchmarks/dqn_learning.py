"""Compares what DQN and Stable-Baselines3's DQN learn in equally many steps with the same hyperparameters.

    python -m benchmarks.dqn_learning --seeds 10

Options that Stable-Baselines3 does not have are off. Ours learns in tensor environments, Stable-Baselines3's in equally
many of Gymnasium's through its ``DummyVecEnv``. What is printed and kept: see ``benchmarks/equal_steps.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import torch

import rltrain
from benchmarks.equal_steps import EPISODES, compare, learned_by_ours, learned_by_sb3

STEPS = {"CartPole-v1": 50_000, "Acrobot-v1": 100_000}
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


def main() -> None:
    """Runs missing seeds, prints a Markdown table, plots the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds [10]")
    parser.add_argument("--env", choices=[*STEPS], action="append", help="[all]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    compare("DQN", "dqn_learning", AGENT, STEPS, (train_ours, train_sb3), seeds=parsed.seeds, only=parsed.env)


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
    return learned_by_ours(result)


def train_sb3(name: str, steps: int, seed: int) -> dict[str, float]:
    """Trains Stable-Baselines3's."""
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    env = make_vec_env(name, NUM_ENVS, seed=seed)
    model = DQN("MlpPolicy", env, lambda left: LEARNING_RATE * left, device="cpu", seed=seed, **AGENT)
    return learned_by_sb3(model, steps, make_vec_env(name, NUM_ENVS, seed=10_000 + seed))


if __name__ == "__main__":
    main()
