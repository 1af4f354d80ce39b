"""Untrained policies to compare with: random actions, and an environment's own baseline."""

from __future__ import annotations

from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.evaluation.episodes import Choose, Evaluation, run_episodes
from rltrain.evaluation.limits import Limits
from rltrain.rng import derive_seed, make_generator
from rltrain.spaces import MASK, random_actions
from rltrain.vec import VecEnv

BASELINES = ("random", "baseline")


def baseline_policy(vec: VecEnv, name: str, *, seed: int = 0) -> Choose:
    """The function by which an untrained policy chooses actions.

    Args:
        vec: The environments it acts in.
        name: ``random``: uniform over the actions that the mask allows; ``baseline``: the environment's own
            :meth:`~rltrain.env.TensorEnv.baseline`, which may know more of the state than is observed.
        seed: Seed of the random actions.

    Raises:
        ConfigError: There is no such policy, or the environment has no baseline.
    """
    if name == "random":
        rng = make_generator(vec.device, derive_seed(seed, "actions"))

        def choose(obs: Observation) -> Tensor:
            mask = obs.get(MASK) if isinstance(obs, dict) else None
            return random_actions(vec.single_action_space, vec.num_envs, vec.device, rng, mask)

        return choose
    if name != "baseline":
        raise ConfigError(f"There is no policy '{name}'.", f"It is one of: {', '.join(BASELINES)}.")
    env = getattr(vec, "env", None)
    if not isinstance(env, TensorEnv) or type(env).baseline is TensorEnv.baseline:
        what = type(env or vec).__name__
        raise ConfigError(f"{what} has no baseline policy.", "Use --policy random.")
    return lambda _: env.baseline(vec.state)  # type: ignore[attr-defined]


def evaluate_baseline(
    vec: VecEnv, name: str, episodes: int, *, seed: int = 0, limits: Limits | None = None
) -> Evaluation:
    """Plays episodes with an untrained policy; see :func:`baseline_policy`."""
    return run_episodes(baseline_policy(vec, name, seed=seed), vec, episodes, seed=seed, limits=limits)
