"""A live replay buffer of Stable-Baselines3 as a dataset: its whole episodes, and only these."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import RolloutBuffer

from rltrain.errors import DatasetError
from rltrain.sb3.buffers import dataset_of_buffer


def limited() -> gymnasium.Env:
    return gymnasium.make("Pendulum-v1", max_episode_steps=30)


@pytest.mark.parametrize("size", [1000, 100])
def test_whole_episodes_come_out_as_they_were_played(tmp_path: Path, size: int) -> None:
    model = SAC("MlpPolicy", limited(), buffer_size=size, learning_starts=10_000, seed=1)
    model.learn(160)
    dataset = dataset_of_buffer(model.replay_buffer, tmp_path / "set", env_id="Pendulum-v1")
    assert dataset.episodes.length.tolist() == [30] * (5 if size == 1000 else 2)  # of 100 steps the first is not whole
    assert dataset.ends()[1].all()
    env = limited()
    for number in range(len(dataset.episodes)):
        episode = dataset.episode(number)
        cos, sin, speed = episode["obs"][0]
        env.reset()
        env.unwrapped.state = np.array([np.arctan2(sin, cos), speed])
        for t, action in enumerate(episode["action"]):
            obs, reward, *_ = env.step(action)
            assert np.allclose(obs, episode["obs"][t + 1], atol=1e-4)
            assert reward == pytest.approx(episode["reward"][t], abs=1e-3)


def test_other_buffers_are_refused(tmp_path: Path) -> None:
    env = limited()
    buffer = RolloutBuffer(10, env.observation_space, env.action_space)
    with pytest.raises(DatasetError, match="RolloutBuffer does not say how"):
        dataset_of_buffer(buffer, tmp_path / "set")
