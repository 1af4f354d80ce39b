"""The configuration: its sources, and what is refused before anything is created."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml

from rltrain.agents.ppo.config import PPOConfig
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.registry import EnvSpec, agent_config_class, agent_specs, env_specs
from rltrain.settings import build_config, canonical, load_config, merge, to_yaml, tuned_defaults, validate

ENV = "rltrain/CartPole-v1"
CONFIGS = Path(__file__).parents[2] / "configs"


def build(**overrides: Any) -> TrainConfig:
    return build_config("ppo", ENV, overrides)[0]


def error_of(**overrides: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(**overrides)
    return caught.value


# Where values come from


def test_the_tuned_file_lies_over_the_defaults_and_is_named() -> None:
    tuned = yaml.safe_load((CONFIGS / "ppo" / "rltrain-CartPole-v1.yaml").read_text())
    config, source = build_config("ppo", ENV)
    assert source == "ppo/rltrain-CartPole-v1.yaml"
    assert tuned["num_envs"] == config.num_envs != TrainConfig.model_fields["num_envs"].default
    assert isinstance(config.agent, PPOConfig)
    assert tuned["agent"]["n_steps"] == config.agent.n_steps != PPOConfig().n_steps
    assert config.agent.vf_coef == PPOConfig().vf_coef


def test_overrides_lie_over_the_tuned_file_key_by_key() -> None:
    tuned, config = build().agent, build(agent={"n_steps": 7, "policy_kwargs": {"log_std_init": -1}}, num_envs=3)
    assert config.num_envs == 3
    changed = {"n_steps": 7, "policy_kwargs": {**tuned.model_dump()["policy_kwargs"], "log_std_init": -1.0}}
    assert config.agent.model_dump() == tuned.model_dump() | changed


def test_a_tuned_file_is_looked_up_by_id_then_namespace_then_default() -> None:
    for env_id, name in (
        ("rltrain/CartPole-v1", "rltrain-CartPole-v1"),
        ("ALE/Any-v5", "ALE"),
        ("my/Any-v0", "default"),
    ):
        values, source = tuned_defaults("ppo", EnvSpec(env_id, "nowhere"))
        assert source == f"ppo/{name}.yaml"
        assert values == canonical(load_config(CONFIGS / source))
    assert tuned_defaults("unknown", EnvSpec("my/Any-v0", "nowhere")) == ({}, "the agent's own defaults")


def test_adapted_environments_start_from_the_defaults_of_stable_baselines3() -> None:
    config, source = build_config("ppo", "CartPole-v1")
    assert "Stable-Baselines3" in source
    assert (config.num_envs, config.agent) == (8, PPOConfig())
    assert isinstance(config.agent, PPOConfig)
    assert (config.agent.n_steps, config.agent.batch_size, config.agent.n_epochs) == (2048, 64, 10)


def test_merging_goes_into_mappings_and_replaces_everything_else() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": [1, 2], "f": 3}
    over = {"a": {"c": {"d": 5, "g": 6}}, "e": [9], "f": {"h": 1}}
    assert merge(base, over) == {"a": {"b": 1, "c": {"d": 5, "g": 6}}, "e": [9], "f": {"h": 1}}
    assert merge(over, base)["f"] == 3
    assert base["a"] == {"b": 1, "c": {"d": 2}}  # untouched


@pytest.mark.parametrize(
    "file",
    sorted(set(CONFIGS.glob("*/*.yaml")) - set(CONFIGS.glob("spaces/*"))),
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_every_shipped_file_fits_an_agent_and_an_environment(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    algo = file.parent.name
    data = canonical(load_config(file))
    assert algo in agent_specs()
    monkeypatch.setattr(
        gymnasium, "registry", {**gymnasium.registry, "ALE/Any-v5": EnvSpec("ALE/Any-v5", "nowhere:Any")}
    )
    homes = {"default": ENV, "ALE": "ALE/Any-v5", **{id.replace("/", "-"): id for id in env_specs()}}
    if "algo" in data:  # to be named with --config
        assert file.stem not in homes
        assert data["algo"] == algo
    else:
        config, source = build_config(algo, homes[file.stem])
        assert file.stem == "default" or source == f"{algo}/{file.name}"
    whole = build_config(algo, homes.get(file.stem) or data.get("env", {}).get("id", ENV), data)[0]
    assert file.stem == "default" or "algo" in data or whole == config
    known = agent_config_class(algo)().model_dump()
    for key, value in data.get("agent", {}).items():
        assert known[key] != value, f"{key} is {value} by default: leave it out"


# RL Zoo's spellings


def test_aliases() -> None:
    config = build(n_envs=5, n_timesteps=500)
    assert (config.num_envs, config.total_timesteps) == (5, 500)
    assert "n_envs" in error_of(n_envs=5, num_envs=5).cause
    assert canonical({"env": ENV}) == {"env": {"id": ENV}}


@pytest.mark.parametrize("on", [True, False])
def test_normalize_stands_for_both_normalizers(on: bool) -> None:
    agent = build(normalize=on).agent
    assert isinstance(agent, PPOConfig)
    assert (agent.normalize_obs, agent.normalize_reward) == (on, on)
    agent = build(normalize=on, agent={"normalize_reward": not on, "n_epochs": 3}).agent
    assert isinstance(agent, PPOConfig)
    assert (agent.normalize_obs, agent.normalize_reward, agent.n_epochs) == (on, not on, 3)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"])
def test_policy_is_accepted_and_says_nothing_new(policy: str) -> None:
    assert build(policy=policy) == build()
    assert "RnnPolicy" in error_of(policy="RnnPolicy").cause


def test_activations_and_widths_as_in_rl_zoo() -> None:
    agent = build(agent={"policy_kwargs": {"net_arch": [32, 16], "activation_fn": "nn.LeakyReLU"}}).agent
    assert isinstance(agent, PPOConfig)
    assert agent.policy_kwargs.net_arch.pi == agent.policy_kwargs.net_arch.vf == [32, 16]
    assert agent.policy_kwargs.activation_fn == "leaky_relu"


# Back from its file


def test_a_written_configuration_reads_back_as_it_was(tmp_path: Path) -> None:
    config = build(
        agent={
            "learning_rate": "lin_0.001",
            "clip_range_vf": 0.1,
            "target_kl": 0.01,
            "policy_kwargs": {"net_arch": []},
        },
        env={"kwargs": {"gravity": 1.6, "text": "1e3", "none": None}},
        seed=2**63 - 1,
        stop_at_reward=-0.1,
        run_dir="on",
        init_from="2024-01-01",
    )
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config))
    data = load_config(file)
    assert build_config("ppo", ENV, data)[0] == config
    assert build_config(data["algo"], data["env"]["id"], data)[0] == config


# What is refused


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "num_envs": [0, -1, 1.5, "abc", 2**31, None, True],
        "total_timesteps": [0, -5, 1.5, "abc", math.inf, 2**63, None, True],
        "seed": [-1, 0.5, 2**63, "x", None, True],
        "eval_freq": [-1, True],
        "n_eval_episodes": [-1, 2.5],
        "save_freq": [-1],
        "keep_checkpoints": [0],
        "video_freq": [-1],
        "log_interval": [0],
        "stats_window_size": [0],
        "stop_at_reward": ["abc", math.nan, math.inf, True],
        "device": [None, True],
        "run_dir": [None, False],
        "agent.learning_rate": [0, -1, "abc", math.nan, math.inf, "lin_", "lin_-1", "lin_nan", None, True, [1]],
        "agent.n_steps": [0, -1, 1.5, "ten", True],
        "agent.batch_size": [0, -64, 0.5],
        "agent.n_epochs": [0, -1],
        "agent.gamma": [1.5, -1, math.nan, "abc", True],
        "agent.gae_lambda": [2, -0.1, math.nan],
        "agent.clip_range": [0, -0.1, math.nan, math.inf],
        "agent.clip_range_vf": [0, -0.1, math.nan],
        "agent.normalize_advantage": ["maybe", 3],
        "agent.ent_coef": [-0.1, math.nan, math.inf],
        "agent.vf_coef": [-0.5, math.nan],
        "agent.max_grad_norm": [0, -1, math.nan],
        "agent.target_kl": [0, -1, math.nan],
        "agent.policy_kwargs.net_arch": [[0], [-3], ["x"], 64, {"pi": [64]}, [[64]]],
        "agent.policy_kwargs.activation_fn": ["softmax", None],
        "agent.policy_kwargs.log_std_init": [math.nan, "low"],
        "agent.policy_kwargs": [None, 3, "x"],
        "agent": [None, 3, "x", [1]],
        "env.kwargs": [None, 3, [1], {"device": "cpu"}, {"dtype": "float64"}, {"num_envs": 2}],
    }.items(),
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_values_out_of_range(option: str, values: list[Any]) -> None:
    for value in values:
        overrides: Any = value
        for part in reversed(option.split(".")):
            overrides = {part: overrides}
        error = error_of(**overrides)
        assert option in error.cause, value
        assert "\n" not in error.cause + error.fix
        assert error.fix


def test_each_limit_is_where_it_should_be() -> None:
    """What lies on it is taken as it is."""
    least = {"num_envs": 1, "total_timesteps": 1, "seed": 0, "eval_freq": 0, "n_eval_episodes": 0, "save_freq": 0}
    assert build(**least, keep_checkpoints=1).model_dump().items() >= least.items()
    agent = {"gamma": 1.0, "gae_lambda": 0.0, "batch_size": 1, "n_epochs": 1, "ent_coef": 0.0, "target_kl": None}
    assert build(agent=agent).agent.model_dump().items() >= agent.items()
    made = build(agent={"gamma": 0, "gae_lambda": 1, "learning_rate": "1e-9", "policy_kwargs": {"net_arch": []}}).agent
    assert (made.gamma, made.gae_lambda, made.learning_rate) == (0.0, 1.0, 1e-9)
    assert made.policy_kwargs.net_arch.model_dump() == {"pi": [], "vf": []}


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, torch.tensor])
def test_numbers_of_numpy_and_torch_are_numbers(kind: Any) -> None:
    agent = build(agent={"learning_rate": float(kind(0.5)), "clip_range": 0.5, "gamma": kind(0.5)}).agent
    assert (agent.learning_rate, agent.gamma) == (0.5, 0.5)
    if kind is not torch.tensor:
        assert build(agent={"learning_rate": kind(0.5)}).agent.learning_rate == 0.5
    for wrong in (np.bool_(True), [0.1], None):
        assert "agent.learning_rate" in error_of(agent={"learning_rate": wrong}).cause


def relu(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("agent", "fix"),
    [
        ({"learning_rate": lambda left: 1e-3 * left}, "'lin_0.001' to fall linearly"),
        ({"clip_range": relu}, "'lin_0.001' to fall linearly"),
        ({"learning_rate": torch.optim.lr_scheduler.LambdaLR}, "'lin_0.001' to fall linearly"),
        ({"policy_kwargs": {"activation_fn": relu}}, "'relu' for torch.nn.ReLU"),
        ({"policy_kwargs": {"activation_fn": torch.nn.Mish}}, "'relu' for torch.nn.ReLU"),
        ({"policy_kwargs": {"features_extractor_class": relu}}, "a class of your own"),
        ({"policy_kwargs": {"net_arch": [{"pi": [8], "vf": [8]}]}}, "{pi: [64], vf: [64]}"),
        ({"policy_kwargs": "dict(net_arch=[8])"}, "Give each by itself"),
    ],
)
def test_what_is_written_for_stable_baselines3_has_a_fix_of_its_own(agent: dict[str, Any], fix: str) -> None:
    assert fix in error_of(agent=agent).fix


@pytest.mark.parametrize(
    ("overrides", "cause", "fix"),
    [
        ({"total_timestep": 5}, "'total_timestep'", "'total_timesteps'"),
        ({"agent": {"lerning_rate": 5}}, "'agent.lerning_rate'", "'agent.learning_rate'"),
        ({"agent": {"policy_kwargs": {"net_arhc": 5}}}, "kwargs.net_arhc'", "'agent.policy_kwargs.net_arch'"),
        ({"agent": {"policy_kwargs": {"net_arch": {"pi": [8], "vd": [8]}}}}, "net_arch.vd'", "pi, vf"),
        ({"env": {"kwarg": {}}}, "'env.kwarg'", "'env.kwargs'"),
        ({"env": {"gravity": 3}}, "'env.gravity'", "id, kwargs"),
        ({"learning_rate": 5}, "'learning_rate'", "'agent.learning_rate'"),  # as in SB3, in the wrong place here
        ({"gamma": 5}, "'gamma'", "'agent.gamma'"),
        ({"agent": {"": 4}}, "'agent.'", "--help"),
    ],
)
def test_an_unknown_key_names_the_nearest(overrides: dict[str, Any], cause: str, fix: str) -> None:
    error = error_of(**overrides)
    assert cause in error.cause
    assert fix in error.fix


def test_unknown_names() -> None:
    for algo, env, fix in (
        ("pop", ENV, "'ppo'"),
        ("ppo", "rltrain/Cartpole-v1", f"'{ENV}'"),
        ("ppo", "rltrain/CartPol-v1", f"'{ENV}'"),
        ("ppo", "CartPole-v2", "'CartPole-v1'"),
        ("ppo", "Xyzzy", "rltrain envs"),
        ("xyzzy", ENV, "rltrain agents"),
        ("ppo", "no_such_module:Env-v0", "installed"),
    ):
        with pytest.raises(ConfigError) as caught:
            build_config(algo, env)
        assert fix in caught.value.fix


def test_a_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="'env' is missing"):
        validate(TrainConfig, {"algo": "ppo", "agent": PPOConfig()})


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "No such file"),
        (b"\x80\x00\xff", "not text"),
        (b"a: [1", "line 1"),
        (b"num_envs: 3\n\tx: 4", "line 2"),
        (b"- 1\n- 2", "holds no settings"),
        (b"", "holds no settings"),
        (b"text", "holds no settings"),
        (b"a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"algo: ppo\nseed: 1\nalgo: dqn", "not valid YAML in line 3: 'algo' is there twice"),
        (b"agent:\n  gamma: 0.9\n  gamma: 0.8", "line 3: 'gamma' is there twice"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes | None, cause: str) -> None:
    file = tmp_path / "my config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=cause) as caught:
        load_config(file)
    assert str(file) in caught.value.cause


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path)
