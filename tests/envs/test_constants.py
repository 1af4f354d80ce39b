"""Constants are checked when an environment is made."""

import math
from typing import Any

import pytest
import torch

from rltrain.errors import ConfigError
from rltrain.registry import env_parameters, env_specs, make_env

NUMBERS = [(id, name) for id in env_specs() for name, value in env_parameters(id).items() if type(value) is float]
ZERO_IS_FINE = {("rltrain/CartPole-v1", "gravity"), ("rltrain/Pendulum-v1", "g")}
CLASSIC = [(id, name) for id, name in NUMBERS if id in ("rltrain/CartPole-v1", "rltrain/Pendulum-v1")]


def test_the_classic_constants_are_all_there() -> None:
    assert set(env_parameters("rltrain/CartPole-v1")) == {
        "gravity", "masscart", "masspole", "length", "force_mag", "tau",
    }  # fmt: skip
    assert set(env_parameters("rltrain/Pendulum-v1")) == {"max_torque", "max_speed", "dt", "g", "m", "l"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, "long", None])
@pytest.mark.parametrize(("env_id", "name"), NUMBERS)
def test_what_is_not_a_finite_number_is_refused(env_id: str, name: str, bad: Any) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        make_env(env_id, **{name: bad})
    assert caught.value.fix


@pytest.mark.parametrize(("env_id", "name"), CLASSIC)
def test_what_is_out_of_range_is_refused(env_id: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=-1.0 is out of range"):
        make_env(env_id, **{name: -1.0})
    if (env_id, name) in ZERO_IS_FINE:
        assert float(getattr(make_env(env_id, **{name: 0.0}), name)) == 0.0
    else:
        with pytest.raises(ConfigError, match="must be above 0"):
            make_env(env_id, **{name: 0.0})


@pytest.mark.parametrize(("env_id", "name"), CLASSIC)
def test_a_constant_is_a_scalar_tensor_that_acts_when_changed(env_id: str, name: str) -> None:
    def outcome(env: Any) -> torch.Tensor:
        state = env.reset(64, torch.Generator().manual_seed(0))
        action = torch.tensor(env.action_space.sample()).expand(64, *env.action_space.shape)
        for _ in range(8):
            state, _, _ = env.step(state, 4 * action if action.is_floating_point() else action, None)
        return env.observe(state)

    env = make_env(env_id)
    env.action_space.seed(0)
    constant = getattr(env, name)
    assert constant.shape == ()
    assert constant.dtype == env.dtype
    new = 0.3 * float(constant)
    constant.fill_(new)  # as a curriculum would
    made = make_env(env_id, **{name: new})
    made.action_space.seed(0)
    untouched = make_env(env_id)
    untouched.action_space.seed(0)
    changed = outcome(env)
    assert not torch.equal(changed, outcome(untouched))
    assert torch.equal(changed, outcome(made))


def test_spaces_follow_the_constants() -> None:
    env = make_env("rltrain/Pendulum-v1", max_torque=5, max_speed=3)
    assert env.action_space.high.tolist() == [5.0]  # type: ignore[attr-defined]
    assert env.observation_space.high.tolist() == [1.0, 1.0, 3.0]  # type: ignore[attr-defined]


def test_an_unknown_constant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'gravity'"):
        make_env("rltrain/CartPole-v1", gravty=9.8)
    with pytest.raises(ConfigError, match="It takes: gravity, masscart"):
        make_env("rltrain/CartPole-v1", zzz=1)
