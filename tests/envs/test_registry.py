"""Ids resolve to environments, and wrong ids raise errors with advice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from countdown import Countdown

from rltrain.errors import ConfigError
from rltrain.make import make_env, make_vec
from rltrain.plugins import resolve
from rltrain.registry import env_spec, register_env, twin_of

pytestmark = pytest.mark.usefixtures("clean_registries")


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'rltrain/CartPole-v1'") as caught:
        make_vec("rltrain/Cartpole-v1", 1)
    assert "rltrain/Cartpole-v1" in caught.value.cause
    with pytest.raises(ConfigError, match="rltrain envs"):
        env_spec("zzz")


def test_gymnasiums_environments_are_known_and_point_to_their_twin() -> None:
    spec = env_spec("CartPole-v1")
    assert (spec.id, spec.max_episode_steps, spec.reward_threshold) == ("CartPole-v1", 500, 475.0)
    assert twin_of(spec) == "rltrain/CartPole-v1"
    assert twin_of(env_spec("rltrain/CartPole-v1")) is twin_of(env_spec("CarRacing-v3")) is None
    with pytest.raises(ConfigError, match="'rltrain/CartPole-v1', its device-resident twin"):
        make_env("CartPole-v1")


def test_a_clash_is_refused_and_the_same_again_is_not() -> None:
    register_env("test/Countdown-v0", Countdown)
    register_env("test/Countdown-v0", Countdown)
    with pytest.raises(ConfigError, match="registered twice"):
        register_env("test/Countdown-v0", "elsewhere:Countdown")
    assert env_spec("test/Countdown-v0").entry_point is Countdown


def test_a_registered_environment_is_gymnasiums_too() -> None:
    register_env("test/Countdown-v0", "countdown:Countdown", max_episode_steps=4, kwargs={"start": 9})
    env = gymnasium.make("test/Countdown-v0")
    assert env.spec is not None
    assert env.spec.max_episode_steps == 4
    assert env.reset(seed=0)[0]["observation"][0] >= 9
    assert make_vec("test/Countdown-v0", 2).max_episode_steps == 4
    assert make_env("test/Countdown-v0", start=3).start == 3  # type: ignore[attr-defined]


def test_a_module_before_the_colon_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_plugin.py").write_text(
        "from rltrain.registry import register_env\nregister_env('some/Countdown-v0', 'countdown:Countdown')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="no environment 'some/Countdown-v0'"):
        env_spec("some/Countdown-v0")
    assert type(make_env("some_plugin:some/Countdown-v0")) is Countdown
    assert make_vec("some_plugin:some/Countdown-v0", 2).num_envs == 2
    with pytest.raises(ConfigError, match=r"'no_such_module'.*cannot be imported"):
        env_spec("no_such_module:some/Countdown-v0")


def test_a_broken_entry_point_says_what_is_wrong() -> None:
    register_env("test/Broken-v0", "countdown:Missing")
    with pytest.raises(ConfigError, match="'countdown:Missing' cannot be imported"):
        make_env("test/Broken-v0")


def test_a_class_of_gymnasiums_is_to_be_registered_with_gymnasium() -> None:
    cartpole = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
    with pytest.raises(ConfigError, match=r"CartPoleEnv is a gymnasium.Env.*gymnasium.register\('test/Pole-v0'"):
        register_env("test/Pole-v0", resolve(cartpole))
    register_env("test/Pole-v0", cartpole)  # imported where it is used
    with pytest.raises(ConfigError, match=r"CartPoleEnv is a gymnasium.Env.*gymnasium.register\('test/Pole-v0'"):
        make_vec("test/Pole-v0", 2)


def test_a_class_needs_no_registration() -> None:
    assert make_env(Countdown, start=3).start == 3  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"no constructor argument 'strat'\. Did you mean 'start'"):
        make_env(Countdown, strat=3)


def test_listing_environments_does_not_import_torch() -> None:
    code = "import sys, rltrain.registry as r; r.env_specs(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
