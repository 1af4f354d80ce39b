"""Constants are checked when an environment is made."""

from typing import Any

import pytest
import torch

from rltrain.errors import ConfigError
from rltrain.make import env_parameters, make_env
from rltrain.registry import env_spec, env_specs
from rltrain.spaces import random_actions
from rltrain.tree import tree_map

NUMBERS = [(id, name) for id in env_specs() for name, value in env_parameters(id).items() if type(value) is float]
CLASSIC = [(id, name) for id, name in NUMBERS if env_spec(id).group == "classic"]
ZERO_IS_FINE = {"gravity", "g", "torque_noise_max"}
SIGNED = {"min_position", "max_position", "goal_position", "goal_velocity"}
SPREAD = {  # how far apart states are to be for every constant to matter
    "rltrain/Acrobot-v1": 30.0,
    "rltrain/CartPole-v1": 1.0,
    "rltrain/MountainCar-v0": 0.8,
    "rltrain/MountainCarContinuous-v0": 0.8,
    "rltrain/Pendulum-v1": 10.0,
}
HILL = {"min_position", "max_position", "max_speed", "goal_position", "goal_velocity", "gravity"}
NAMES = {
    "rltrain/Acrobot-v1": {
        "dt", "gravity", "link_length_1", "link_mass_1", "link_mass_2", "link_com_pos_1", "link_com_pos_2", "link_moi",
        "max_vel_1", "max_vel_2", "torque", "torque_noise_max", "equations",
    },
    "rltrain/CartPole-v1": {"gravity", "masscart", "masspole", "length", "force_mag", "tau"},
    "rltrain/MountainCar-v0": HILL | {"force"},
    "rltrain/MountainCarContinuous-v0": HILL | {"power"},
    "rltrain/Pendulum-v1": {"max_torque", "max_speed", "dt", "g", "m", "l"},
}  # fmt: skip


@pytest.mark.parametrize("env_id", NAMES)
def test_the_classic_constants_are_all_there(env_id: str) -> None:
    assert set(env_parameters(env_id)) == NAMES[env_id]


@pytest.mark.parametrize(("env_id", "name"), [(id, name) for id, name in CLASSIC if name not in SIGNED])
def test_what_is_out_of_range_is_refused(env_id: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=-1.0 is out of range"):
        make_env(env_id, **{name: -1.0})
    if name in ZERO_IS_FINE:
        assert float(getattr(make_env(env_id, **{name: 0.0}), name)) == 0.0
    else:
        with pytest.raises(ConfigError, match="must be above 0"):
            make_env(env_id, **{name: 0.0})


@pytest.mark.parametrize("env_id", ["rltrain/MountainCar-v0", "rltrain/MountainCarContinuous-v0"])
@pytest.mark.parametrize(
    "wrong", [{"min_position": -0.5}, {"max_position": -0.5}, {"goal_position": 0.7}, {"goal_position": [-1.3, 0.5]}]
)
def test_start_and_goal_lie_in_the_valley(env_id: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.* is out of range"):
        make_env(env_id, **wrong)


@pytest.mark.parametrize(("env_id", "name"), CLASSIC)
def test_a_constant_is_a_scalar_tensor_that_acts_when_changed(env_id: str, name: str) -> None:
    space = make_env(env_id).action_space

    def outcome(env: Any) -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        noise = torch.rand(64, generator=rng) * 2 - 1
        state = tree_map(lambda x: x if x.dim() > 1 else x + SPREAD[env_id] * noise, env.reset(64, rng))
        action = random_actions(space, 64, env.device, rng)
        seen = []
        for _ in range(8):
            state, reward, terminated = env.step(state, action, rng)
            seen.append(torch.cat((env.observe(state), reward.unsqueeze(-1), terminated.unsqueeze(-1)), -1))
        return torch.stack(seen)

    env = make_env(env_id)
    constant = getattr(env, name)
    assert constant.shape == ()
    assert constant.dtype == env.dtype
    new = 0.9 * float(constant) or 0.3
    constant.fill_(new)  # as a curriculum would
    changed = outcome(env)
    assert not torch.equal(changed, outcome(make_env(env_id)))
    assert torch.equal(changed, outcome(make_env(env_id, **{name: new})))


def test_spaces_follow_the_constants() -> None:
    env = make_env("rltrain/Pendulum-v1", max_torque=5, max_speed=3)
    assert env.action_space.high.tolist() == [5.0]  # type: ignore[attr-defined]
    assert env.observation_space.high.tolist() == [1.0, 1.0, 3.0]  # type: ignore[attr-defined]
    env = make_env("rltrain/Acrobot-v1", max_vel_1=2, max_vel_2=4)
    assert env.observation_space.high.tolist() == [1.0, 1.0, 1.0, 1.0, 2.0, 4.0]  # type: ignore[attr-defined]
    env = make_env("rltrain/MountainCar-v0", min_position=-2, max_position=1, max_speed=0.5)
    assert env.observation_space.low.tolist() == [-2.0, -0.5]  # type: ignore[attr-defined]
    assert env.observation_space.high.tolist() == [1.0, 0.5]  # type: ignore[attr-defined]


def test_an_unknown_constant_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'gravity'"):
        make_env("rltrain/CartPole-v1", gravty=9.8)
    with pytest.raises(ConfigError, match="It takes: gravity, masscart"):
        make_env("rltrain/CartPole-v1", zzz=1)
