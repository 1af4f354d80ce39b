"""Replays every transition of a vector environment in Gymnasium's CartPole, from its observation."""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.vec import VecEnv, VecStep


def judged(vec: VecEnv, steps: int) -> list[VecStep]:
    """Plays at random and holds each step to Gymnasium's, the first after a reset above all; returns the steps.

    A transition that never happened, or one that got lost, would show: what an action leads to follows from what was
    seen before it.
    """
    judge = gymnasium.make("CartPole-v1").unwrapped
    judge.reset(seed=0)
    rng = torch.Generator().manual_seed(0)
    obs, seen = vec.reset(0), []
    length = torch.zeros(vec.num_envs, dtype=torch.int64)
    for _ in range(steps):
        action = torch.randint(2, (vec.num_envs,), generator=rng)
        step = vec.step(action)
        length += 1
        for row in range(vec.num_envs):
            expected, reward, terminated = one_step(judge, obs[row], int(action[row]))
            np.testing.assert_allclose(step.final_obs[row].numpy(), expected, rtol=1e-4, atol=1e-5)
            assert (step.reward[row].item(), step.terminated[row].item()) == (reward, terminated)
        done = step.terminated | step.truncated
        assert torch.equal(step.episode_length, length)
        assert torch.equal(step.episode_return, length.float())
        assert torch.equal(step.obs[~done], step.final_obs[~done])
        assert bool((step.obs[done].abs() <= 0.05).all()), "not where episodes begin"
        length[done] = 0
        obs = step.obs.clone()
        seen.append(step)
    return seen


def one_step(judge: gymnasium.Env, obs: Tensor, action: int) -> tuple[np.ndarray, float, bool]:
    """What Gymnasium makes of an action in a state."""
    judge.state = obs.double().numpy()  # type: ignore[attr-defined]
    judge.steps_beyond_terminated = None  # type: ignore[attr-defined]
    after, reward, terminated, _, _ = judge.step(action)
    return after, float(reward), terminated
