"""Plugins: what they may add, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from countdown import Countdown

import rltrain
from rltrain.errors import ConfigError
from rltrain.registry import agent_spec, env_spec, register_agent, register_env
from rltrain.settings import build_config, tuned_defaults

pytestmark = pytest.mark.usefixtures("clean_registries")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with settings, in a folder without __init__.py as setuptools leaves it."""
    package = tmp_path / "tidy_plugin"
    (package / "configs" / "ppo").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("tidy_plugin")]:
        monkeypatch.delitem(sys.modules, name)
    return package / "configs" / "ppo"


def test_a_plugins_settings_come_before_ours(plugin: Path) -> None:
    register_env("tidy/CartPole-v1", Countdown, configs="tidy_plugin.configs")
    assert tuned_defaults("ppo", env_spec("tidy/CartPole-v1"))[1] == "ppo/default.yaml"
    for number, name in enumerate(("default", "CartPole-v1", "tidy-CartPole-v1"), 3):
        (plugin / f"{name}.yaml").write_text(f"num_envs: {number}")
        config, source = build_config("ppo", "tidy/CartPole-v1")
        assert (config.num_envs, source) == (number, f"ppo/{name}.yaml of tidy_plugin.configs")
    register_env("tidy/Other-v0", Countdown)
    assert tuned_defaults("ppo", env_spec("tidy/Other-v0"))[1] == "ppo/default.yaml"


def test_an_agents_settings_come_with_it(plugin: Path) -> None:
    ppo = agent_spec("ppo")
    register_agent("tidy", ppo.entry_point, ppo.config, configs="tidy_plugin.configs")
    assert tuned_defaults("tidy", env_spec("rltrain/CartPole-v1")) == ({}, "the agent's own defaults")
    (plugin.parent / "tidy").mkdir()
    (plugin.parent / "tidy" / "default.yaml").write_text("num_envs: 5")
    assert build_config("tidy", "rltrain/CartPole-v1")[0].num_envs == 5


def test_settings_that_are_not_there_or_do_not_fit(plugin: Path) -> None:
    register_env("tidy/Lost-v0", Countdown, configs="no_such_plugin.configs")
    with pytest.raises(ConfigError, match=r"'tidy/Lost-v0' are said to be in 'no_such_plugin.configs'.*configs="):
        build_config("ppo", "tidy/Lost-v0")
    (plugin / "Wrong-v0.yaml").write_text("agent: {gama: 1}")
    register_env("tidy/Wrong-v0", Countdown, description="Wrong.", configs="tidy_plugin.configs")
    report = rltrain.check_env("tidy/Wrong-v0")
    assert any("its settings for ppo cannot be used" in each.message and "gamma" in each.fix for each in report.errors)


def test_clashes_name_both_sides() -> None:
    with pytest.raises(ConfigError, match=r"'CartPole-v1' of countdown:Countdown is taken: Gymnasium has it from gym"):
        register_env("CartPole-v1", Countdown)
    with pytest.raises(ConfigError, match=r"twice: by rltrain.envs.classic.cartpole:CartPole and by countdown:C"):
        register_env("rltrain/CartPole-v1", Countdown)
    ppo = agent_spec("ppo")
    with pytest.raises(ConfigError, match=r"'ppo' is registered twice: by rltrain.agents.ppo.agent:PPO and by mine:"):
        register_agent("ppo", "mine:PPO", ppo.config)
    assert str(env_spec("rltrain/CartPole-v1").entry_point).startswith("rltrain.")


def test_a_class_that_is_defined_again_takes_its_own_place() -> None:
    """As in a notebook, whose cells are run again and again."""

    def define(start: int) -> Any:
        return type("Again", (Countdown,), {"reward_threshold": float(start), "__module__": "__main__"})

    for start in (1, 2):
        register_env("mine/Again-v0", define(start))
        assert env_spec("mine/Again-v0").reward_threshold == start
        assert gymnasium.spec("mine/Again-v0").reward_threshold == start
        assert gymnasium.make("mine/Again-v0").unwrapped.tensor_env.reward_threshold == start  # type: ignore[attr-defined]


def test_a_policy_plays_where_it_is_put() -> None:
    for policy, low, high in (("random", 15, 30), (lambda obs: (obs[:, 2] + obs[:, 3] > 0).long(), 150, 501)):
        result = rltrain.evaluate(policy, "rltrain/CartPole-v1", 40)  # type: ignore[arg-type]
        assert low < result.mean_reward < high
        assert len(result.returns) == 40
    light = rltrain.evaluate("random", "rltrain/CartPole-v1", 40, gravity=0.1, length=9.0)
    assert light.mean_reward > 30
    for wrong in ({"env": None}, {"env": "rltrain/CartPole-v1", "episodes": 0}, {"env": "nowhere/Env-v0"}):
        with pytest.raises(ConfigError):
            rltrain.evaluate("random", **wrong)


def test_a_run_is_evaluated_where_it_was_trained_and_elsewhere(tmp_path: Path) -> None:
    options: dict[str, Any] = {"total_timesteps": 512, "num_envs": 8, "n_eval_episodes": 5, "progress": False}
    agent = {"n_steps": 32, "batch_size": 64, "n_epochs": 1}
    result = rltrain.train("ppo", "rltrain/CartPole-v1", run_dir=tmp_path, agent=agent, **options)
    assert result.evaluation is not None
    for run in (result.run_dir, str(result.run_dir), rltrain.load(result.run_dir)):
        assert (rltrain.evaluate(run, episodes=5).returns == result.evaluation.returns).all()
    register_env("mine/Long-v0", env_spec("rltrain/CartPole-v1").entry_point, max_episode_steps=7)
    assert rltrain.evaluate(result.run_dir, "mine/Long-v0", 5).lengths.max() == 7
    with pytest.raises(ConfigError, match="observations are"):
        rltrain.evaluate(result.run_dir, "rltrain/Pendulum-v1")
