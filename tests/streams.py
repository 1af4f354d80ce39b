"""Which random numbers runs, ranks and environments get, as they get them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.distributed.ranks import Ranks
from rltrain.make import make_vec
from rltrain.rng import derive_seed, make_generator

PURPOSES = ("env", "agent", "weights", "actions")


class SeedTeller(gymnasium.Env[Any, Any]):
    """Its first observation is its seed."""

    observation_space = spaces.Box(0, 2**62, (1,), np.int64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.array([-1 if seed is None else seed], dtype=np.int64), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.int64), 0.0, False, False, {}


def as_rank(rank: int, size: int) -> Ranks:
    """A rank as it sees itself."""
    ranks = Ranks()
    ranks.rank, ranks.world_size = rank, size
    return ranks


def gymnasium_seeds(seeds: Iterable[int], envs: int, ranks: int) -> list[int]:
    """The seeds that environments of Gymnasium are reset with, of every run and rank."""
    vec = make_vec(SeedTeller, envs, vectorization="sync")
    return [
        int(told)
        for seed in seeds
        for rank in range(ranks)
        for told in vec.reset(as_rank(rank, ranks).seed(seed)).flatten().tolist()
    ]


def starts(seeds: Iterable[int], envs: int, ranks: int) -> Tensor:
    """The first observations of tensor environments, of every run and rank."""
    vec = make_vec("rltrain/CartPole-v1", envs)
    return torch.cat([vec.reset(as_rank(rank, ranks).seed(seed)) for seed in seeds for rank in range(ranks)])


def stream_keys(seeds: Iterable[int], ranks: int) -> list[bytes]:
    """What the generators of every run, rank and purpose draw first."""
    keys = []
    for seed in seeds:
        for rank in range(ranks):
            own = as_rank(rank, ranks).seed(seed)
            for purpose in PURPOSES:
                generator = make_generator("cpu", derive_seed(own, purpose))
                keys.append(torch.randint(2**62, (2,), generator=generator).numpy().tobytes())
    return keys
