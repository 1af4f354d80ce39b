"""Policies that nobody trained, for any agent and any spaces, with statistics that are not those of the start."""

from __future__ import annotations

import warnings
from typing import Any

import kinds_of_spaces
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from kinds_of_spaces import ACTIONS

from rltrain.adapters.spaces import Actions, observation_leaves, seen_space
from rltrain.config import EnvConfig, TrainConfig
from rltrain.registry import agent_class, agent_config_class
from rltrain.runs.policy import Policy
from rltrain.runs.translation import Translation
from rltrain.spaces import MASK
from rltrain.wrappers import scale_of

OBSERVATIONS: dict[str, spaces.Space] = {
    **kinds_of_spaces.OBSERVATIONS,
    "screen": spaces.Box(0, 255, (4, 40, 40), np.uint8),
    "nested": spaces.Dict(
        {
            "zone": spaces.Dict({"image": spaces.Box(0, 255, (4, 4, 3), np.uint8), "count": spaces.Discrete(9)}),
            "pair": spaces.Tuple((spaces.MultiBinary((2, 2)), spaces.Tuple((spaces.Box(-1.0, 1.0, (2,)),)))),
            "a/b c": spaces.Box(-5.0, 5.0, (2,)),
        }
    ),
    "masked": spaces.Dict({"observation": spaces.Box(-1.0, 1.0, (4,)), MASK: spaces.MultiBinary(3)}),
    "masked_parts": spaces.Dict({"observation": spaces.Box(-1.0, 1.0, (4,)), MASK: spaces.MultiBinary(14)}),
}


def untrained(algo: str, sees: str, acts: str, rescale: bool | None = None, **agent: Any) -> Policy:
    """A policy with weights of its own, so that its actions differ from one another."""
    own = OBSERVATIONS[sees], ACTIONS[acts]
    leaves, _ = observation_leaves(own[0])
    scale = scale_of(own[1], rescale)
    action_space = Actions.for_space(own[1]).space
    if scale is not None:
        action_space = spaces.Box(-1.0, 1.0, own[1].shape)
    seen = seen_space(leaves), action_space
    config = TrainConfig.model_construct(
        algo=algo, env=EnvConfig(id="test/Nothing-v0"), agent=agent_config_class(algo)(**agent), num_envs=1, seed=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        made = agent_class(algo)(*seen, 1, config.agent, seed=3)
    _shake(made)
    device = torch.device("cpu")
    return Policy(made, config, 64, Translation(own, seen, device, scale=scale), device, "test/Nothing-v0", [])


def _shake(agent: Any) -> None:
    """Larger weights, and statistics of observations as after some training."""
    rng = torch.Generator().manual_seed(11)
    actor = agent.actor
    module = actor.algorithm.policy if hasattr(actor, "algorithm") else actor
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
        for part in module.modules():
            if hasattr(part, "moments") and hasattr(part, "clip"):
                for moments in part.moments.values():
                    moments.mean.add_(0.2)
                    moments.var.mul_(1.7)
    normalizer = getattr(actor, "normalizer", None)
    if normalizer is not None:
        several = normalizer.obs_rms if isinstance(normalizer.obs_rms, dict) else {"": normalizer.obs_rms}
        for moments in several.values():
            moments.mean, moments.var = moments.mean + 0.2, moments.var * 1.7


def observations(space: spaces.Space, rows: int, seed: int = 0) -> Any:
    """Observations as a vector environment gives them."""
    several = batch_space(space, rows)
    several.seed(seed)
    return several.sample()


def flat(policy: Policy, obs: Any) -> dict[str, np.ndarray]:
    """The same as inputs of an exported policy."""
    return {
        f"obs.{leaf.name}" if leaf.name else "obs": np.asarray(leaf.of(obs)).astype(leaf.dtype)
        for leaf in policy.translation.leaves
    }
