"""Evaluates any policy: that of a run, a baseline, or the user's own function."""

from __future__ import annotations

import reprlib
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from rltrain.devices import pick_device
from rltrain.env import EnvClass
from rltrain.errors import ConfigError
from rltrain.evaluation.baselines import BASELINES, evaluate_baseline
from rltrain.evaluation.episodes import Choose, Evaluation, most_envs, run_episodes
from rltrain.evaluation.limits import Limits, make_limited
from rltrain.make import make_vec, taken_apart
from rltrain.naming.arguments import typed
from rltrain.rng import derive_seed
from rltrain.runs.policy import Policy, load
from rltrain.vec import check_count


@typed("policy", "env", "episodes", "seed", "device")
def evaluate(
    policy: str | Path | Policy | Choose,
    env: str | EnvClass | None = None,
    episodes: int = 100,
    *,
    deterministic: bool = True,
    seed: int = 0,
    device: str = "cpu",
    limits: Limits | None = None,
    **env_kwargs: Any,
) -> Evaluation:
    """Plays fresh episodes, the same number in each environment, apart from any training.

    Args:
        policy: A run folder, or a policy from :func:`rltrain.load`; ``random`` or ``baseline``; or your own function
            from observations (N, *O) to actions (N, *A), both of them tensors.
        env: The environment to play in: an id, a class or an environment that ``gymnasium.make`` made. By default, the
            one that the run was trained in.
        episodes: Number of episodes.
        deterministic: Whether to take the most likely action rather than a sample; only trained policies use it.
        seed: Seed of the episodes.
        device: The device to play on.
        limits: How long it may last; see :meth:`Policy.evaluate <rltrain.runs.policy.Policy.evaluate>`.
        **env_kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: There is no such environment, or the policy needs one and none is given.
        CheckpointError: There is no such run.
    """
    env, taken = taken_apart(env)
    env_kwargs = {**taken.pop("kwargs", {}), **taken, **env_kwargs}
    if isinstance(policy, Path) or (isinstance(policy, str) and policy not in BASELINES):
        policy = load(policy, device=device)
    if isinstance(policy, Policy):
        policy = policy if env is None else policy.in_env(env)
        return policy.evaluate(episodes, deterministic=deterministic, seed=seed, limits=limits, **env_kwargs)
    if env is None:
        raise ConfigError("There is no environment to play in.", "Name one: rltrain.evaluate(policy, 'rltrain/...').")
    check_count("episodes", episodes)
    check_count("seed", seed, 0)
    if not (isinstance(policy, str) or callable(policy)):
        raise ConfigError(
            f"{reprlib.repr(policy)} is no policy.",
            "Give a run folder, what rltrain.load returned, 'random', 'baseline' or a function.",
        )
    seed = derive_seed(seed, "fresh")
    limits = limits or Limits(seconds=None)
    make = partial(make_vec, env, min(episodes, most_envs(env)), device=pick_device(device), **env_kwargs)
    with closing(make_limited(make, limits)) as vec:
        if isinstance(policy, str):
            return evaluate_baseline(vec, policy, episodes, seed=seed, limits=limits)
        return run_episodes(policy, vec, episodes, seed=seed, limits=limits)
