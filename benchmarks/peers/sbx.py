"""sbx: Stable-Baselines3's algorithms with updates in JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sbx import DQN, PPO

from benchmarks.peers import sb3


def training(how: str, point: dict[str, Any], seed: int) -> Callable[[], int] | None:
    """As Stable-Baselines3."""
    return sb3.training(how, point, seed, {"ppo": PPO, "dqn": DQN})


def solving(how: str, seed: int) -> dict[str, Any]:
    """As Stable-Baselines3."""
    return sb3.solving(how, seed, PPO)
