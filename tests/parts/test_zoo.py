"""Entries of RL Zoo's files are read as data, and refused by name if they ask for something unavailable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rltrain.cli import main
from rltrain.errors import ConfigError
from rltrain.registry import agent_config_class
from rltrain.runs.folder import RunFolder
from rltrain.sb3.rl_zoo import read_value, zoo_settings
from rltrain.settings import build_config

FILE = """
shared: &shared
  policy: 'MlpPolicy'
  n_timesteps: !!float 1e6
  normalize: "{'norm_obs': True, 'norm_reward': False}"

CartPole-v1:
  n_envs: 8
  n_timesteps: !!float 1e5
  policy: MlpPolicy
  n_steps: 32
  learning_rate: lin_0.001
  clip_range: lin_0.2

Pendulum-v1:
  <<: *shared
  gamma: 0.9
  use_sde: False
  policy_kwargs: "dict(log_std_init=-2, ortho_init=False,
                       activation_fn=nn.ReLU,
                       net_arch=dict(pi=[256, 256], vf=[64, 64])
                     )"
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    file = tmp_path / "ppo.yml"
    file.write_text(FILE)
    return file


def settings(zoo: Path, entry: str, algo: str = "ppo") -> dict[str, Any]:
    return zoo_settings(zoo, entry, agent_config_class(algo).model_fields)


@pytest.mark.parametrize("algo", ["ppo", "sb3/ppo"])
def test_entries_become_settings(zoo: Path, algo: str) -> None:
    config, source = build_config(
        algo, "rltrain/Pendulum-v1", base=(settings(zoo, "rltrain/Pendulum-v1", algo), "ppo.yml")
    )
    agent: Any = config.agent
    assert source == "ppo.yml"
    assert (config.num_envs, config.total_timesteps, agent.gamma) == (1, 1_000_000, 0.9)
    assert (agent.n_steps, agent.batch_size) == (2048, 64)  # Stable-Baselines3's, not those tuned for many environments
    assert (agent.normalize_obs, agent.normalize_reward) == (True, False)
    policy = agent.policy_kwargs
    assert (policy.log_std_init, policy.ortho_init, policy.activation_fn) == (-2.0, False, "relu")
    arch = policy.net_arch if isinstance(policy.net_arch, dict) else policy.net_arch.model_dump()
    assert arch == {"pi": [256, 256], "vf": [64, 64]}
    config, _ = build_config(
        algo, "rltrain/CartPole-v1", {"agent": {"n_steps": 16}}, base=(settings(zoo, "CartPole-v1"), "")
    )
    assert (config.num_envs, config.agent.learning_rate, config.agent.n_steps) == (8, "lin_0.001", 16)  # type: ignore[attr-defined]


def test_the_command_line_trains_with_an_entry(zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--total-timesteps",
        "256",
        "--no-progress",
        "--n-eval-episodes",
        "0",
        "--run-dir",
        str(tmp_path / "runs"),
    ]
    assert main(["train", "ppo", "rltrain/CartPole-v1", "--zoo", str(zoo), *options]) == 0
    assert f"settings: {zoo}" in capsys.readouterr().err
    config = RunFolder.open(tmp_path / "runs" / "rltrain-CartPole-v1" / "ppo_1")[0].config()
    assert (config.num_envs, config.agent.clip_range) == (8, "lin_0.2")  # type: ignore[attr-defined]
    assert main(["train", "ppo", "rltrain/CartPole-v1", "--zoo"]) == 2
    assert "'--zoo' needs a value" in capsys.readouterr().err
    assert main(["train", "ppo", "rltrain/CartPole-v1", "--zoo", str(tmp_path / "none.yml")]) == 2


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        ("use_sde: True", "no gSDE"),
        ("sde_sample_freq: 4", "no gSDE"),
        ("env_wrapper: [their.Wrapper]", r"no wrapper like env_wrapper=\['their.Wrapper'\]"),
        ("vec_env_wrapper: their.Wrapper", "no wrapper"),
        ("callback: their.Callback", "no callback"),
        ("replay_buffer_class: HerReplayBuffer", "no replay buffer"),
        ("n_step: 3", "no option 'n_step'.*Did you mean 'n_steps'"),
        ('normalize: "dict(norm_obs=True, clip_obs=5.0)"', "no clip_obs of normalize"),
        ("policy: TheirPolicy", "no policy 'TheirPolicy'"),
        ('policy_kwargs: "dict(net_arch=(lambda: [64])())"', "more than data"),
    ],
)
def test_what_there_is_not_is_refused_by_name(lines: str, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "zoo.yml"
    file.write_text(f"CartPole-v1:\n  n_envs: 2\n  {lines}\n")
    with pytest.raises(ConfigError, match=cause):
        settings(file, "CartPole-v1")


def test_hindsight_is_an_option_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "zoo.yml"
    start = "FetchReach-v4:\n  replay_buffer_class: HerReplayBuffer\n  replay_buffer_kwargs: "
    file.write_text(f"{start}\"dict(goal_selection_strategy='future', n_sampled_goal=8)\"\n")
    assert settings(file, "FetchReach-v4", "sac")["agent"] == {"n_sampled_goal": 8}
    file.write_text(f"{start}\"dict(goal_selection_strategy='episode')\"\n")
    with pytest.raises(ConfigError, match="no goal_selection_strategy='episode' of HerReplayBuffer"):
        settings(file, "FetchReach-v4", "dqn")


def test_what_says_nothing_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "zoo.yml"
    file.write_text("CartPole-v1:\n  frame_stack: 1\n  env_wrapper: null\n  sde_sample_freq: -1\n  normalize: true\n")
    assert settings(file, "CartPole-v1") == {
        "num_envs": 1,
        "env": {"frame_stack": 1},
        "agent": {"normalize_obs": True, "normalize_reward": True},
    }
    assert (
        zoo_settings(file, "CartPole-v1", agent_config_class("sb3/ppo").model_fields)["agent"]["sde_sample_freq"] == -1
    )


def test_entries_that_are_not_there(zoo: Path) -> None:
    with pytest.raises(ConfigError, match=r"no entry for 'rltrain/CartPol-v1'.*Did you mean 'CartPole-v1'"):
        settings(zoo, "rltrain/CartPol-v1")
    zoo.write_text("CartPole-v1: 3\n")
    with pytest.raises(ConfigError, match="holds no settings"):
        settings(zoo, "CartPole-v1")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("dict(net_arch=[64, 64])", {"net_arch": [64, 64]}),
        ("{'a': (1, -2.5e-3), 'b': None, 'c': True}", {"a": [1, -0.0025], "b": None, "c": True}),
        ("dict(activation_fn=nn.ReLU, optimizer_class=th.optim.RMSprop)",
         {"activation_fn": "nn.ReLU", "optimizer_class": "th.optim.RMSprop"}),
        ("(1, 'episode')", [1, "episode"]),
        ("lin_0.001", "lin_0.001"),
        ("auto", "auto"),
        (0.5, 0.5),
        ([1, "episode"], [1, "episode"]),
    ],
)  # fmt: skip
def test_values_are_read_as_data(text: Any, value: Any) -> None:
    assert read_value("key", text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('{place}')",
        "dict(a=__import__('os').mkdir('{place}'))",
        "[open('{place}', 'w')]",
        "dict(**{{'a': 1}})",
        "dict([('a', 1)])",
        "list((1, 2))",
        "{{**{{'a': 1}}}}",
        "{{1: 2}}",
        "[x for x in (1, 2)]",
        "(lambda: 1)()",
        "f'{{1}}'",
        "[1 + 1]",
        "dict(a=(yield))",
        "dict(a=1j)",
        "dict(a=name)",
        "dict(a=x[0].y)",
        "dict(a=",
        "(" * 500,
        "[" + "-" * 100_000 + "1]",
    ],
)
def test_nothing_is_evaluated(text: str, tmp_path: Path) -> None:
    place = tmp_path / "owned"
    if "{place}" in text or "{{" in text:
        text = text.format(place=place)
    with pytest.raises(ConfigError, match="more than data"):
        read_value("policy_kwargs", text)
    assert not place.exists()
