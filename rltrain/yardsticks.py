"""Policies that nobody trained, to measure trained ones by: random actions, and an environment's own baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.evaluation import Evaluation, play_episodes
from rltrain.rng import derive_seed, make_generator
from rltrain.spaces import random_actions
from rltrain.vec import TensorVecEnv

Choose: TypeAlias = Callable[[Observation, Any], Tensor]
"""The actions (N, *A) for observations (N, *O) and the states behind them."""

YARDSTICKS = ("random", "baseline")


def yardstick(env: TensorEnv[Any], name: str, *, seed: int = 0) -> Choose:
    """How a policy that nobody trained chooses.

    Args:
        env: Where it acts.
        name: ``random``: uniform over the actions that the mask allows; ``baseline``: the environment's own
            :meth:`~rltrain.env.TensorEnv.baseline`, which may know more of the state than is observed.
        seed: Of the random actions.

    Raises:
        ConfigError: There is no such policy, or the environment has no baseline.
    """
    if name == "random":
        rng = make_generator(env.device, derive_seed(seed, "actions"))

        def choose(obs: Observation, state: Any) -> Tensor:
            mask = obs.get("action_mask") if isinstance(obs, dict) else None
            n = next(iter(obs.values())).shape[0] if isinstance(obs, dict) else obs.shape[0]
            return random_actions(env.action_space, n, env.device, rng, mask)

        return choose
    if name != "baseline":
        raise ConfigError(f"There is no policy '{name}'.", f"It is one of: {', '.join(YARDSTICKS)}.")
    if type(env).baseline is TensorEnv.baseline:
        raise ConfigError(f"{type(env).__name__} has no baseline policy.", "Use --policy random.")
    return lambda obs, state: env.baseline(state)


def evaluate_yardstick(vec: TensorVecEnv[Any], name: str, episodes: int, *, seed: int = 0) -> Evaluation:
    """Plays episodes with a policy that nobody trained; see :func:`yardstick`."""
    choose = yardstick(vec.env, name, seed=seed)
    return play_episodes(lambda obs, _: (choose(obs, vec.state), None), None, vec, episodes, seed=seed)
