"""How good is a policy: whole episodes, the same number in every environment, far from training's randomness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rltrain.agent import Actor, ActOut, State, next_state
from rltrain.devices import statistics_dtype
from rltrain.env import Observation
from rltrain.errors import RunError
from rltrain.registry import spec_of
from rltrain.rng import derive_seed, make_generator
from rltrain.vec import SUCCESS, VecEnv, VecStep

Choose: TypeAlias = Callable[[Any], Tensor]  # Any: a function may say Tensor, or dict[str, Tensor]
"""A policy without memory as a function: the actions (N, *A) for observations (N, *O)."""

MAX_ENVS, MAX_ADAPTED = 256, 16  # environments that an evaluation runs side by side at most
CHECK_EVERY = 16  # steps between two questions to the device whether all episodes are over
PATIENCE = 100_000  # steps after which an episode without an end is given up


@dataclass(frozen=True)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        returns: Return of each episode.
        lengths: Steps of each episode.
        successes: Whether each episode was a success; empty where the environment does not say.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def mean_reward(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std_reward(self) -> float:
        """Standard deviation of the returns."""
        return float(self.returns.std())

    @property
    def iqm(self) -> float:
        """Interquartile mean: of the middle half. Agarwal et al. (2021), arXiv:2108.13264."""
        cut = len(self.returns) // 4
        return float(np.sort(self.returns)[cut : len(self.returns) - cut].mean())

    def ci95(self, resamples: int = 10_000) -> tuple[float, float]:
        """Bootstrap 95% interval of the mean return, by percentiles."""
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(self.returns), size=(resamples, len(self.returns)))
        low, high = np.percentile(self.returns[drawn].mean(1), [2.5, 97.5])
        return float(low), float(high)

    def metrics(self) -> dict[str, float]:
        """The means by TensorBoard tag."""
        metrics = {"eval/mean_reward": self.mean_reward, "eval/mean_ep_length": float(self.lengths.mean())}
        if self.successes.size:
            metrics["eval/success_rate"] = float(self.successes.mean())
        return metrics

    def summary(self) -> dict[str, Any]:
        """Everything ``rltrain eval --json`` prints of the episodes."""
        summary: dict[str, Any] = {
            "mean_reward": self.mean_reward,
            "std_reward": self.std_reward,
            "min": float(self.returns.min()),
            "max": float(self.returns.max()),
            "iqm": self.iqm,
            "ci95": list(self.ci95()),
            "episodes": len(self.returns),
            "mean_ep_length": float(self.lengths.mean()),
        }
        if self.successes.size:
            summary["success_rate"] = float(self.successes.mean())
        return summary


def most_envs(env: str | type) -> int:
    """How many environments an evaluation runs side by side at most: fewer where each is an object of its own."""
    return MAX_ENVS if spec_of(env).batched else MAX_ADAPTED


def play(
    policy: Actor | Choose,
    env: VecEnv,
    obs: Observation,
    *,
    deterministic: bool = True,
    rng: torch.Generator | None = None,
) -> Iterator[VecStep]:
    """The steps of a policy in an environment, without end. Recurrent states start anew where an episode ended.

    Args:
        policy: Who acts.
        env: Where, just reset.
        obs: What it gave then, (N, *O).
        deterministic: The most likely action rather than a sample; functions do not know the difference.
        rng: Source of chance for samples.
    """
    actor = policy if isinstance(policy, Actor) else _Memoryless(policy)
    with torch.no_grad():
        state = initial = actor.initial_state(env.num_envs)
    while True:
        with torch.no_grad():
            out = actor(obs, state, deterministic=deterministic, rng=rng)
        step = env.step(out.action)
        yield step
        obs, state = step.obs, next_state(out, step, initial)


class _Memoryless(Actor):
    """A function of observations as an actor."""

    def __init__(self, function: Choose) -> None:
        super().__init__()
        self.function = function

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """What the function gives."""
        return ActOut(self.function(obs))


@torch.no_grad()
def run_episodes(
    policy: Actor | Choose, env: VecEnv, episodes: int, *, deterministic: bool = True, seed: int = 0
) -> Evaluation:
    """Plays episodes. Each environment has a fixed quota of them, so short ones are not favoured.

    Args:
        policy: Who acts: the actor of an agent, which is not changed, or a function.
        env: Used for nothing else: it is reset here.
        episodes: How many, over all environments.
        deterministic: The most likely action rather than a sample.
        seed: Of the environments and of the samples.

    Raises:
        RunError: Episodes do not end.
    """
    rng = make_generator(env.device, derive_seed(seed, "actions"))
    n, device = env.num_envs, env.device
    quota = (episodes + n - 1 - torch.arange(n, device=device)) // n  # sums to `episodes`
    most = -(-episodes // n)
    # One column more than the quota: what is not to be kept is written there.
    results = torch.full((3, n, most + 1), torch.nan, dtype=statistics_dtype(device), device=device)
    played = torch.zeros(n, dtype=torch.int64, device=device)
    steps = play(policy, env, env.reset(seed), deterministic=deterministic, rng=rng)
    for count, step in zip(range(1, PATIENCE * most + 1), steps, strict=False):
        done = step.terminated | step.truncated
        column = torch.where(done & (played < quota), played, most).unsqueeze(1)
        success = step.info.get(SUCCESS, torch.full_like(step.reward, torch.nan))
        for result, value in zip(results, (step.episode_return, step.episode_length, success), strict=True):
            result.scatter_(1, column, value.to(results.dtype).unsqueeze(1))
        played += done
        if count % CHECK_EVERY == 0 and bool((played >= quota).all()):
            break
    else:
        raise RunError(f"An episode had not ended after {PATIENCE:,} steps.", "Give the environment max_episode_steps.")
    kept = torch.arange(most + 1, device=device) < quota.unsqueeze(1)
    returns, lengths, successes = results[:, kept].cpu().numpy().astype(np.float64)
    return Evaluation(returns, lengths.astype(np.int64), successes[~np.isnan(successes)])
