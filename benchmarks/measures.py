"""The points of every measure of ``python -m benchmarks``, with all hyperparameters.

A point of training is passed to ``training`` of a peer: the algorithm, the number of environments, the widths of
the hidden layers (PPO has two such networks, with tanh), and hyperparameters under Stable-Baselines3's names.
"""

from __future__ import annotations

from typing import Any

MEASURES = ("stepping", "training", "growth", "solving")
NUM_ENVS = (1, 8, 64, 512, 4_096, 65_536)
PPO = {
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
}
DQN = {
    "learning_rate": 1e-4,
    "buffer_size": 1_000_000,
    "learning_starts": 100,
    "batch_size": 32,
    "train_freq": 4,
    "gradient_steps": 1,
    "target_update_interval": 10_000,
}
ZOO_DQN = {  # RL Zoo's for CartPole: an update after every 256 steps of all environments together
    "learning_rate": 2.3e-3,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "batch_size": 64,
    "train_freq": 256,
    "gradient_steps": 128,
    "target_update_interval": 10,
}


PQN = {"learning_rate": 5e-4, "gamma": 0.99, "q_lambda": 0.65, "max_grad_norm": 10.0}
OFTEN_DQN = {**DQN, "buffer_size": 100_000, "batch_size": 256, "train_freq": 1}


def ppo(num_envs: int, n_epochs: int, *, width: int = 64, minibatches: int = 4) -> dict[str, Any]:
    """PPO with rollouts of 32 steps."""
    agent = {"n_steps": 32, "batch_size": 32 * num_envs // minibatches, "n_epochs": n_epochs, **PPO}
    return {"algo": "ppo", "num_envs": num_envs, "net_arch": [width, width], "agent": agent}


def pqn(num_envs: int, n_epochs: int) -> dict[str, Any]:
    """PQN with rollouts of 32 steps in 4 minibatches."""
    agent = {"n_steps": 32, "batch_size": 32 * num_envs // 4, "n_epochs": n_epochs, **PQN}
    return {"algo": "pqn", "num_envs": num_envs, "net_arch": [64, 64], "agent": agent}


def dqn(num_envs: int, settings: dict[str, Any], width: int) -> dict[str, Any]:
    """DQN; RL Zoo's frequency of training counts the steps of all environments together."""
    train_freq = max(settings["train_freq"] // num_envs, 1) if settings is ZOO_DQN else settings["train_freq"]
    agent = {**settings, "train_freq": train_freq}
    return {"algo": "dqn", "num_envs": num_envs, "net_arch": [width, width], "agent": agent}


TRAINING = {
    "PPO, 1,024 x 32, 4 epochs of 4 minibatches": ppo(1_024, 4),
    "PPO, 1,024 x 32, 1 epoch of 4 minibatches": ppo(1_024, 1),
    "PPO, 8 x 32, 20 epochs of 1 minibatch": ppo(8, 20, minibatches=1),
    "PPO, 64 x 32, 4 epochs of 4 minibatches": ppo(64, 4),
    "PPO, 256 x 32, 4 epochs of 4 minibatches": ppo(256, 4),
    "PQN, 1,024 x 32, 2 epochs of 4 minibatches": pqn(1_024, 2),
    "DQN, 1 environment, defaults of Stable-Baselines3": dqn(1, DQN, 64),
    "DQN, 8 environments, defaults of Stable-Baselines3": dqn(8, DQN, 64),
    "DQN, 512 environments, defaults of Stable-Baselines3": dqn(512, DQN, 64),
    "DQN, 64 environments, an update of 256 after every step": dqn(64, OFTEN_DQN, 64),
    "DQN, 1 environment, as in RL Zoo": dqn(1, ZOO_DQN, 256),
    "DQN, 8 environments, as in RL Zoo": dqn(8, ZOO_DQN, 256),
}
BASE = {"environments": 1_024, "width": 64, "epochs": 4}
SERIES = {"environments": (64, 256, 1_024, 4_096), "width": (64, 128, 256), "epochs": (1, 4, 8)}  # what grows


def points(measure: str, *, quick: bool = False) -> dict[str, Any]:
    """The points of a measure by name; fewer of them if it has to be quick."""
    if measure == "stepping":
        return {f"{n:,}": n for n in (NUM_ENVS[::2] if quick else NUM_ENVS)}
    if measure == "training":
        return dict(list(TRAINING.items())[:: 3 if quick else 1])
    if measure == "growth":
        grown = [BASE | {what: value} for what, values in SERIES.items() for value in values[: 2 if quick else None]]
        return {point_name(**of): ppo(of["environments"], of["epochs"], width=of["width"]) for of in grown}
    return {}


def point_name(environments: int, width: int, epochs: int) -> str:
    """A point of growth."""
    return f"{environments:,} environments, width {width}, {epochs} epochs"
