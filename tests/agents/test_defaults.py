"""Every default value against that of its source: Stable-Baselines3's signatures, and papers where it has none."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
import pytest
import stable_baselines3
import torch
from echo import make_agent
from pydantic import BaseModel
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import SACPolicy
from torch import nn

from rltrain.agents.dqn.agent import DQN
from rltrain.agents.dqn.config import DQNConfig
from rltrain.agents.parts.networks import ACTIVATIONS
from rltrain.agents.parts.q_network import NoisyLinear
from rltrain.agents.parts.settings import OffPolicyConfig, PrioritizedConfig, QNetworkKwargs
from rltrain.agents.ppo.agent import PPO
from rltrain.agents.ppo.config import PolicyKwargs, PPOConfig
from rltrain.agents.pqn.agent import PQN
from rltrain.agents.pqn.config import PQNConfig
from rltrain.agents.sac.config import PolicyKwargs as SACPolicyKwargs
from rltrain.agents.sac.config import SACConfig
from rltrain.config import TrainConfig
from rltrain.normalize import ObservationNormalizer, RewardNormalizer

NETWORK = {"features_extractor_class": "auto", "features_extractor_kwargs": {}}
MEMORY = {"memory": None, "memory_size": 128}  # as many as PQN's layers are wide; the others have none by default
PRIORITIES = {
    "prioritized_replay": False,
    "priority_alpha": 0.6,  # Schaul et al. (2016), table 3, proportional
    "priority_beta": 0.4,  # the same
}
# What Stable-Baselines3's constructors do not have, with the value and where it is from.
OWN: dict[type[BaseModel], dict[str, Any]] = {
    PPOConfig: {"normalize_obs": False, "normalize_reward": False, "value_warmup": 0},
    OffPolicyConfig: {"offline_fraction": 0.0, "n_sampled_goal": 0, "save_replay_buffer": True},
    DQNConfig: {
        **PRIORITIES,
        "offline_fraction": 0.0,
        "n_sampled_goal": 0,
        "save_replay_buffer": True,
        "double_q": False,
        "dueling": False,
        "distributional": False,
        "n_quantiles": 50,
        "noisy": False,
    },
    SACConfig: {
        "offline_fraction": 0.0,
        "value_warmup": 0,
        "n_sampled_goal": 0,
        "save_replay_buffer": True,
        "normalize_obs": False,
        "normalize_reward": False,
        "policy_delay": 1,
        "distributional": False,
        "n_quantiles": 25,  # Kuznetsov et al. (2020), arXiv:2005.04269, table 4
    },
    PolicyKwargs: {**NETWORK, **MEMORY, "network_class": None, "network_kwargs": {}},
    SACPolicyKwargs: {**NETWORK, "layer_norm": False, "weight_norm": False},
    QNetworkKwargs: {**NETWORK, "layer_norm": False},
}
THEIRS: dict[type[BaseModel], Any] = {
    PPOConfig: stable_baselines3.PPO,
    OffPolicyConfig: stable_baselines3.SAC,
    DQNConfig: stable_baselines3.DQN,
    SACConfig: stable_baselines3.SAC,
    PolicyKwargs: ActorCriticPolicy,
    SACPolicyKwargs: SACPolicy,
    QNetworkKwargs: DQNPolicy,
}


def defaults(function: Any) -> dict[str, Any]:
    """The default values of a constructor."""
    parameters = inspect.signature(function.__init__).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def plain(value: Any) -> Any:
    """Our value as they would write it."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return value


@pytest.mark.parametrize("ours", THEIRS)
def test_settings_begin_as_theirs_do(ours: type[BaseModel]) -> None:
    """Each of them is compared, here or in the tests of networks below."""
    theirs, values, own = defaults(THEIRS[ours]), ours(), OWN[ours]
    compared = set()
    for name in ours.model_fields:
        value = plain(getattr(values, name))
        if name in own:
            assert value == own[name], name
        elif name in ("policy_kwargs", "net_arch"):
            continue
        elif name == "activation_fn":
            assert ACTIVATIONS[value].__name__ == theirs[name].__name__, name
        else:
            assert value == theirs[name], name
            assert isinstance(value, bool) == isinstance(theirs[name], bool), name
        compared.add(name)
    assert len(compared) >= 4


def widths(layers: nn.Module) -> list[int]:
    """Of the linear layers."""
    return [layer.out_features for layer in layers.modules() if isinstance(layer, nn.Linear)]


def test_networks_are_as_wide_as_theirs() -> None:
    env = gymnasium.make("CartPole-v1")
    ppo, dqn = (
        stable_baselines3.PPO("MlpPolicy", env, device="cpu"),
        stable_baselines3.DQN("MlpPolicy", env, device="cpu"),
    )
    ours = PPO(*spaces(), 1, PPOConfig()).policy
    assert {"pi": widths(ours.pi), "vf": widths(ours.vf)} == ppo.policy.net_arch
    assert widths(DQN(*spaces(), 1, DQNConfig(buffer_size=1)).policy.body) == dqn.policy.net_arch
    sac = stable_baselines3.SAC("MlpPolicy", gymnasium.make("Pendulum-v1"), device="cpu", buffer_size=1)
    assert SACConfig().policy_kwargs.net_arch.model_dump() == {"pi": sac.policy.net_arch, "qf": sac.policy.net_arch}
    assert PPOConfig().policy_kwargs.log_std_init == ppo.policy.log_std_init
    for ours, theirs in ((make_agent(kind=PPO), ppo), (make_agent(kind=DQN), dqn)):
        adam = theirs.policy.optimizer.defaults
        assert (ours.optimizer.eps, 0.9, 0.999) == (adam["eps"], *adam["betas"])


def test_pqn_begins_as_in_the_paper() -> None:
    """The settings of Gallici et al. (2024) for MinAtar, in their repository purejaxql: 128 x 32 steps in 32 parts."""
    config = PQNConfig()
    assert config.model_dump() == {
        "learning_rate": "lin_5e-4",
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 2,
        "gamma": 0.99,
        "q_lambda": 0.65,
        "exploration_fraction": 0.1,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.05,
        "max_grad_norm": 10.0,
        "normalize_obs": False,
        "policy_kwargs": {**NETWORK, **MEMORY, "net_arch": [128], "layer_norm": True, "activation_fn": "relu"},
    }
    assert PQN(*spaces(), 1, config).optimizer.eps == 1e-8  # torch's own


def spaces() -> tuple[Any, Any]:
    env = gymnasium.make("CartPole-v1")
    return env.observation_space, env.action_space


def test_priorities_begin_as_in_the_paper() -> None:
    assert {name: getattr(PrioritizedConfig(), name) for name in PRIORITIES} == PRIORITIES


def test_noise_begins_as_in_the_paper() -> None:
    """Fortunato et al. (2018), section 3.2: factorised noise, sigma_0 = 0.5."""
    layer = NoisyLinear(16, 512)  # with biases enough for their deviation
    for name in ("weight_sigma", "bias_sigma"):
        assert getattr(layer, name).unique().tolist() == pytest.approx([0.5 / 4])
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= 0.25
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.4)


def test_normalisers_begin_as_theirs_do() -> None:
    theirs = defaults(VecNormalize)
    obs, reward = ObservationNormalizer(spaces()[0]), RewardNormalizer(1, PPOConfig().gamma)
    assert (obs.clip, reward.clip, reward.gamma) == (theirs["clip_obs"], theirs["clip_reward"], theirs["gamma"])
    far = torch.full((1, 4), 1e6)
    assert obs(far).tolist() == [[theirs["clip_obs"]] * 4]
    small = 1e-6  # deviations are those of what never varies, and epsilon
    moments = obs.moments["observation"]
    moments.var.zero_()
    assert obs(torch.full((1, 4), small))[0, 0].item() == pytest.approx(small / theirs["epsilon"] ** 0.5, rel=1e-4)


def test_runs_begin_as_documented() -> None:
    """``docs`` and ``rltrain train --help`` promise these."""
    assert TrainConfig.model_fields["stats_window_size"].default == defaults(stable_baselines3.PPO)["stats_window_size"]
    promised = {
        "num_envs": 8,
        "total_timesteps": 1_000_000,
        "seed": 0,
        "device": "auto",
        "nproc": 1,
        "num_threads": None,
        "compile": False,
        "bfloat16": False,
        "run_dir": "runs",
        "stop_at_reward": None,
        "init_from": None,
        "eval_freq": 0,
        "n_eval_episodes": 100,
        "save_freq": 100_000,
        "keep_checkpoints": 3,
        "video_freq": 0,
        "log_interval": None,
        "trackers": ["console", "csv", "tensorboard"],
    }
    assert {name: TrainConfig.model_fields[name].default for name in promised} == promised
