"""What a run says before it begins, and the defaults that fit an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

import rltrain
from rltrain.agents.dqn.config import DQNConfig
from rltrain.agents.parts.q_network import QNetwork
from rltrain.agents.parts.settings import QNetworkKwargs
from rltrain.agents.ppo.config import PolicyKwargs
from rltrain.agents.ppo.policy import make_policy
from rltrain.errors import ConfigError
from rltrain.settings import build_config
from rltrain.training.advice import check_memory

RUN: dict[str, Any] = {"num_envs": 4, "num_threads": 1, "trackers": [], "progress": False}
AGENT = {"n_steps": 64, "batch_size": 64, "n_epochs": 1}


class Walk(gymnasium.Env[Any, Any]):
    """No time limit, and an episode that does not end."""

    observation_space = spaces.Box(-1.0, 1.0, (2,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        return np.zeros(2, np.float32), 1.0, False, False, {}


def test_a_missing_time_limit_is_told_before_training_and_reported_after_it(tmp_path: Path) -> None:
    options = {**RUN, "total_timesteps": 256, "n_eval_episodes": 3, "eval_max_steps": 40, "run_dir": tmp_path}
    with pytest.warns(
        UserWarning, match=r"'Walk' states no time limit: an evaluation cuts an episode short after 40 steps"
    ):
        result = rltrain.train("ppo", Walk, agent=AGENT, **options)
    assert result.evaluation is not None
    assert result.evaluation.lengths.tolist() == [40, 40, 40]
    assert result.evaluation.cut_short == 3


def test_a_rollout_longer_than_the_run_is_told(tmp_path: Path) -> None:
    options = {**RUN, "total_timesteps": 100, "n_eval_episodes": 0, "run_dir": tmp_path}
    with pytest.warns(UserWarning, match=r"takes 256 steps rather than 100.* --num-envs or --agent\.n-steps"):
        assert rltrain.train("ppo", "rltrain/CartPole-v1", agent=AGENT, **options).steps == 256


@pytest.mark.parametrize("algo", ["ppo", "dqn", "pqn", "sb3/ppo", "sb3/dqn"])
def test_every_agent_sees_prepared_frames_of_atari(algo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    games = {
        "ALE/Any-v5": EnvSpec("ALE/Any-v5", "ale_py.env:AtariEnv", kwargs={"obs_type": "rgb"}),
        "AnyNoFrameskip-v4": EnvSpec("AnyNoFrameskip-v4", "ale_py.env:AtariEnv"),
        "ALE/Any-ram-v5": EnvSpec("ALE/Any-ram-v5", "ale_py.env:AtariEnv", kwargs={"obs_type": "ram"}),
    }
    monkeypatch.setattr(gymnasium, "registry", {**gymnasium.registry, **games})
    for game in ("ALE/Any-v5", "AnyNoFrameskip-v4"):
        env = build_config(algo, game)[0].env
        assert (env.atari, env.frame_stack) == (True, 4)
    told = build_config(algo, "ALE/Any-v5", {"env": {"atari": False, "frame_stack": 1}})[0].env
    assert (told.atari, told.frame_stack) == (False, 1)
    if algo.startswith("sb3/"):
        assert not build_config(algo, "ALE/Any-ram-v5")[0].env.atari


def test_no_layers_follow_the_convolutions_of_pictures_unless_asked_for() -> None:
    picture, vector = spaces.Box(0, 255, (84, 84, 4), np.uint8), spaces.Box(-1.0, 1.0, (4,))
    discrete = spaces.Discrete(3)
    assert len(list(make_policy(picture, discrete, PolicyKwargs()).pi.parameters())) == 0
    assert len(list(make_policy(vector, discrete, PolicyKwargs()).pi.parameters())) == 4
    asked_for = PolicyKwargs.model_validate({"net_arch": [64, 64]})
    assert len(list(make_policy(picture, discrete, asked_for).vf.parameters())) == 4
    assert len(list(QNetwork(picture, discrete, QNetworkKwargs()).body.parameters())) == 0
    assert len(list(QNetwork(vector, discrete, QNetworkKwargs()).body.parameters())) == 4


def test_memory_that_does_not_suffice_names_the_option_that_helps() -> None:
    cpu, much = torch.device("cpu"), 2**60
    with pytest.raises(ConfigError, match="The experience to keep takes") as error:
        check_memory(much, cpu, DQNConfig(), spaces.Box(0, 255, (210, 160, 3), np.uint8))
    assert "Lower --agent.buffer-size, which is 1,000,000, to " in error.value.fix
    assert "--env.resize 84 --env.grayscale true" in error.value.fix
    with pytest.raises(ConfigError) as error:
        check_memory(much, cpu)
    assert error.value.fix == "Lower --agent.n-steps or --num-envs."
