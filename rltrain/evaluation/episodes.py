"""Evaluates a policy on whole episodes: the same number in every environment, with random numbers of their own."""

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
from rltrain.evaluation.limits import Limits
from rltrain.evaluation.statistics import iqm, mean_interval
from rltrain.process.stopping import check
from rltrain.registry import spec_of
from rltrain.rng import derive_seed, make_generator
from rltrain.spaces import MASK, allows_nothing, no_choice
from rltrain.vec import SUCCESS, VecEnv, VecStep

Choose: TypeAlias = Callable[[Any], Tensor]  # Any: a function may say Tensor, or dict[str, Tensor]
"""A policy without memory as a function: the actions (N, *A) for observations (N, *O)."""

MAX_ENVS, MAX_ADAPTED = 256, 16  # environments that an evaluation runs side by side at most
CHECK_EVERY = 16  # steps between two checks, which wait for the device, whether all episodes are over


@dataclass(frozen=True)
class Evaluation:
    """The outcome of an evaluation.

    Attributes:
        returns: Return of each episode.
        lengths: Steps of each episode.
        successes: Whether each episode was a success; empty if the environment does not report it.
        cut_short: Number of episodes that a limit of the evaluation ended, rather than the environment. Their returns
            and lengths are those up to there.
        missing: Number of episodes that were asked for and not begun, because time was up.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    cut_short: int = 0
    missing: int = 0

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
        return float(iqm(self.returns))

    def ci95(self, resamples: int = 10_000) -> tuple[float, float]:
        """Bootstrap 95% interval of the mean return, by percentiles."""
        return mean_interval(self.returns, resamples)

    def metrics(self) -> dict[str, float]:
        """The means by TensorBoard tag, and the deviation and interquartile mean of the returns."""
        metrics = {
            "eval/mean_reward": self.mean_reward,
            "eval/std_reward": self.std_reward,
            "eval/iqm_reward": self.iqm,
            "eval/mean_ep_length": float(self.lengths.mean()),
        }
        if self.successes.size:
            metrics["eval/success_rate"] = float(self.successes.mean())
        return metrics

    def summary(self) -> dict[str, Any]:
        """Everything that ``rltrain eval --json`` prints about the episodes."""
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
        for name in ("cut_short", "missing"):
            if number := getattr(self, name):
                summary[name] = number
        return summary


def most_envs(env: str | type) -> int:
    """The most environments that an evaluation runs side by side: fewer if each is a separate object."""
    return MAX_ENVS if spec_of(env).batched else MAX_ADAPTED


def play(
    policy: Actor | Choose,
    env: VecEnv,
    obs: Observation,
    *,
    deterministic: bool = True,
    rng: torch.Generator | None = None,
) -> Iterator[VecStep]:
    """Yields the steps of a policy in an environment, endlessly. Recurrent states are reset where an episode ended.

    Args:
        policy: The policy that acts.
        env: The environment, which was just reset.
        obs: The observations (N, *O) that the reset returned.
        deterministic: Whether to take the most likely action rather than a sample; functions ignore it.
        rng: Generator for the samples.

    Raises:
        Stopped: A signal asked for it.
    """
    actor = as_actor(policy)
    with torch.no_grad():
        state = initial = actor.initial_state(env.num_envs)
    while True:
        check()
        with torch.no_grad():
            out = actor(obs, state, deterministic=deterministic, rng=rng)
        step = env.step(out.action)
        yield step
        obs, state = step.obs, next_state(out, step, initial)


def as_actor(policy: Actor | Choose) -> Actor:
    """A policy as an actor, if it is a function."""
    return policy if isinstance(policy, Actor) else _Memoryless(policy)


class _Memoryless(Actor):
    """A function of observations as an actor."""

    def __init__(self, function: Choose) -> None:
        super().__init__()
        self.function = function

    def choose(self, obs: Observation, state: State, *, deterministic: bool, rng: torch.Generator | None) -> ActOut:
        """Returns the actions of the function."""
        return ActOut(self.function(obs))


@torch.no_grad()
def run_episodes(
    policy: Actor | Choose,
    env: VecEnv,
    episodes: int,
    *,
    deterministic: bool = True,
    seed: int = 0,
    limits: Limits | None = None,
) -> Evaluation:
    """Plays episodes. Each environment has a fixed quota of them, so short ones are not favoured.

    An environment whose episode is cut short, and which goes on all the same, plays no more of them.

    Args:
        policy: The policy that acts: the actor of an agent, which is not changed, or a function.
        env: The environment. It is reset here, so it must not be in use elsewhere.
        episodes: Number of episodes, over all environments.
        deterministic: Whether to take the most likely action rather than a sample.
        seed: Seed of the environments and of the samples.
        limits: How long it may last; by default, as long as it takes with the default limit of steps.

    Raises:
        Stopped: A signal asked for it.
        RunError: A mask allows no action although the episode goes on.
    """
    limits = limits or Limits(seconds=None)
    limits.begin()
    most_steps = limits.steps_in(env)
    rng = make_generator(env.device, derive_seed(seed, "actions"))
    n, device = env.num_envs, env.device
    quota = (episodes + n - 1 - torch.arange(n, device=device)) // n  # sums to `episodes`
    most = -(-episodes // n)
    # One column more than the quota, for values that are not kept.
    results = torch.full((4, n, most + 1), torch.nan, dtype=statistics_dtype(device), device=device)
    played = torch.zeros(n, dtype=torch.int64, device=device)

    def keep(step: VecStep, ended: Tensor, cut: Tensor) -> None:
        """Stores the outcome of the episodes that ended."""
        column = torch.where(ended & (played < quota), played, most).unsqueeze(1)
        success = step.info.get(SUCCESS, torch.full_like(step.reward, torch.nan))
        for result, value in zip(results, (step.episode_return, step.episode_length, success, cut), strict=True):
            result.scatter_(1, column, value.to(results.dtype).unsqueeze(1))
        played.add_(ended)

    stuck = torch.zeros(n, dtype=torch.bool, device=device)
    steps = play(policy, env, env.reset(seed), deterministic=deterministic, rng=rng)
    for count, step in enumerate(steps, 1):
        done = ended = step.terminated | step.truncated
        cut = torch.zeros_like(done)
        if most_steps is not None:
            cut = (step.episode_length >= most_steps) & ~step.terminated
            ended = done | cut
        keep(step, ended, cut)
        if isinstance(step.obs, dict) and MASK in step.obs:
            stuck |= allows_nothing(step.obs[MASK], env.single_action_space)
        if most_steps is not None:
            played = torch.where(cut & ~done, quota, played)
        if limits.over():
            goes_on = ~ended & (played < quota)
            keep(step, goes_on, goes_on)
            break
        if count % CHECK_EVERY == 0:
            both = (quota - played).clamp_(min=0).sum() * (n + 1) + _first_true(stuck)  # one question to the device
            left, row = divmod(int(both), n + 1)
            if row < n:
                raise no_choice(f"Environment {row}", " in the evaluation")
            if not left:
                break
            limits.tell(f"{episodes - left} of {episodes} episodes, {count:,} steps in each of {n} environments")
    kept = ~results[3, :, :most].isnan()
    returns, lengths, successes, cut_short = results[:, :, :most][:, kept].cpu().numpy().astype(np.float64)
    successes = successes[~np.isnan(successes)]
    missing = episodes - len(returns)
    return Evaluation(returns, lengths.astype(np.int64), successes, int(cut_short.sum()), missing)


def _first_true(rows: Tensor) -> Tensor:
    """The number of the first true row, 0-d; that of rows if none is."""
    return (~rows).to(torch.int64).cumprod(0).sum()
