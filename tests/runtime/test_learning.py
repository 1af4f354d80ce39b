"""The tuned settings keep their promise; the README's table has more seeds."""

from pathlib import Path

import pytest

import rltrain


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
