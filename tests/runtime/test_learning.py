"""The tuned settings reach their scores; the tables of the documentation have more seeds."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from gymnasium import spaces

import rltrain
from rltrain.errors import RunError
from rltrain.trackers.csv import STEP, read_progress


@pytest.mark.parametrize("seed", [0, 100])
def test_cartpole_is_solved_in_150_000_steps(seed: int, tmp_path: Path) -> None:
    result = rltrain.train(
        "ppo", "rltrain/CartPole-v1", seed=seed, stop_at_reward=475, run_dir=tmp_path, progress=False
    )
    assert result.stopped_by == "stop_at_reward"
    assert result.steps <= 151_552  # the first whole rollout past 150,000
    assert result.evaluation is not None
    assert result.evaluation.mean_reward >= 475


@pytest.mark.parametrize("seed", [0, 100])
def test_pendulum_is_held_up(seed: int, tmp_path: Path) -> None:
    result = rltrain.train("ppo", "rltrain/Pendulum-v1", seed=seed, run_dir=tmp_path, progress=False)
    assert result.evaluation is not None
    assert result.evaluation.mean_reward >= -200


@pytest.mark.parametrize(("algo", "budget"), [("pqn", 60_000), ("dqn", 120_000)])
def test_q_learning_balances_a_pole_within_seconds(algo: str, budget: int, tmp_path: Path) -> None:
    options = {"stop_at_reward": 150, "n_eval_episodes": 0, "run_dir": tmp_path, "progress": False}
    result = rltrain.train(algo, "rltrain/CartPole-v1", seed=0, **options)
    assert result.stopped_by == "stop_at_reward"
    assert result.steps <= budget  # random actions keep it up for 22 steps


@dataclass
class Clock:
    time: torch.Tensor  # (N,) steps since the start


class Breaking(rltrain.TensorEnv[Clock]):
    """Its rewards are NaN from the 200th step on."""

    observation_space = spaces.Box(-1.0, 1.0, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, n: int, rng: torch.Generator | None) -> Clock:
        return Clock(torch.zeros(n))

    def step(
        self, state: Clock, action: torch.Tensor, rng: torch.Generator | None
    ) -> tuple[Clock, torch.Tensor, torch.Tensor]:
        reward = torch.where(state.time < 200, 1.0, torch.nan)
        return Clock(state.time + 1), reward, torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: Clock) -> torch.Tensor:
        return torch.zeros_like(state.time).unsqueeze(-1)


def test_a_policy_that_is_not_finite_replaces_no_checkpoint(tmp_path: Path) -> None:
    agent = {"n_steps": 32, "batch_size": 32, "n_epochs": 1}
    options = {"log_interval": 100, "save_freq": 32, "num_envs": 1, "total_timesteps": 640, "run_dir": tmp_path}
    with pytest.raises(RunError, match="not finite after 224 steps"):
        rltrain.train("ppo", Breaking, agent=agent, progress=False, **options)
    policy = rltrain.load(tmp_path / "Breaking" / "ppo_1")
    assert policy.step == 192
    assert all(bool(torch.isfinite(tensor).all()) for tensor in policy.agent.state_dict().values())


def test_what_comes_after_the_last_log_point_is_logged_at_the_end(tmp_path: Path) -> None:
    agent = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}
    options = {"log_interval": 5, "num_envs": 1, "total_timesteps": 64, "run_dir": tmp_path, "n_eval_episodes": 0}
    result = rltrain.train("ppo", "rltrain/CartPole-v1", agent=agent, progress=False, **options)
    assert read_progress(result.run_dir / "progress.csv")[STEP] == [40, 64]
