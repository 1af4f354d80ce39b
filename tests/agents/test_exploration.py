"""Randomness in acting: how much of it there is, and that it is another in every step, row and rollout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from echo import VECTOR, make_agent
from gymnasium import spaces
from torch import Tensor

from rltrain.agents.dqn.agent import DQN
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.pqn.agent import PQN
from rltrain.vec import VecStep

N, T = 64, 32
BOX = spaces.Box(-10.0, 10.0, (2,))


def rollout(agent: Any, obs: Tensor) -> Tensor:
    """The actions (T, N, ...) to observations that stay the same."""
    never, nothing = torch.zeros(len(obs), dtype=torch.bool), torch.zeros(len(obs))
    actions = []
    for _ in range(agent.horizon):
        out = agent.act(obs)
        actions.append(out.action.clone())
        agent.record(out, VecStep(obs, nothing, never, never, obs, nothing, nothing.long(), {}))
    if not isinstance(agent, DQN):
        agent.rollout.clear()
    return torch.stack(actions)


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_noise_is_another_in_every_step_row_and_rollout() -> None:
    agent = make_agent(VECTOR, BOX, N, kind=PPO, n_steps=T)
    obs = torch.zeros(N, 4)
    first, second = rollout(agent, obs), rollout(agent, obs)
    noise = torch.cat([first, second])
    noise = noise - agent.predict(obs).action  # of deviation 1
    assert noise.mean().item() == pytest.approx(0.0, abs=0.05)
    assert noise.std().item() == pytest.approx(1.0, abs=0.05)
    assert len(noise.unique()) == noise.numel()
    pairs = {
        "steps": (noise[1:], noise[:-1]),
        "rows": (noise[:, 1:], noise[:, :-1]),
        "numbers": (noise[..., 0], noise[..., 1]),
        "rollouts": (noise[T:], noise[:T]),
    }
    for name, (a, b) in pairs.items():
        assert abs(correlation(a, b)) < 0.06, name


@pytest.mark.parametrize("kind", [PPO, PQN, DQN])
def test_choices_are_others_in_every_step_row_and_rollout(kind: Any) -> None:
    """All actions are as likely as each other, and none depends on the one before."""
    settings = {PPO: {"n_steps": T}, PQN: {"n_steps": T}, DQN: {"train_freq": T, "learning_starts": 10**6}}[kind]
    if kind is not PPO:
        settings = {**settings, "exploration_initial_eps": 1.0}
    agent = make_agent(VECTOR, spaces.Discrete(3), N, kind=kind, **settings)
    if kind is PPO:
        with torch.no_grad():
            agent.policy.action_head.weight.zero_()
    obs = torch.zeros(N, 4)
    actions = torch.cat([rollout(agent, obs), rollout(agent, obs)])
    shares = torch.bincount(actions.flatten(), minlength=3) / actions.numel()
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    for name, a, b in (
        ("steps", actions[1:], actions[:-1]),
        ("rows", actions[:, 1:], actions[:, :-1]),
        ("rollouts", actions[T:], actions[:T]),
    ):
        assert (a == b).float().mean().item() == pytest.approx(1 / 3, abs=0.04), name


@pytest.mark.parametrize("kind", [DQN, PQN])
@pytest.mark.parametrize("progress", [1.0, 0.5, 0.0])
def test_a_sampled_prediction_explores_as_at_the_end_of_training(kind: Any, progress: float) -> None:
    """Whenever it is asked: one of three actions at random in 6 of 10 rows, so 4 of 10 are not the best."""
    agent = make_agent(
        VECTOR,
        spaces.Discrete(3),
        N,
        kind=kind,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.6,
        exploration_fraction=0.9,
    )
    agent.progress_remaining = progress
    obs = torch.zeros(6_000, 4)
    best = agent.predict(obs).action
    assert len(best.unique()) == 1
    rng = torch.Generator().manual_seed(0)
    sampled = agent.predict(obs, deterministic=False, rng=rng).action
    assert (sampled != best).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert not torch.equal(agent.predict(obs, deterministic=False, rng=rng).action, sampled)
