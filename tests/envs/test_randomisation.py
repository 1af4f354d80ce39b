"""Constants given as ranges are drawn in every episode, in every environment that takes ranges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rltrain.env import TensorEnv
from rltrain.errors import ConfigError
from rltrain.make import env_parameters, make_env
from rltrain.registry import env_specs
from rltrain.spaces import random_actions
from rltrain.tree import leaves
from rltrain.vec import TensorVecEnv

N = 64


def ranges(env_id: str) -> dict[str, list[float]]:
    """By name, the constants that may be ranges, each with one about its default."""
    found = {}
    for name, value in env_parameters(env_id).items():
        if type(value) is not float:
            continue
        around = sorted((0.8 * value, 1.2 * value)) if value else [0.0, 0.5]
        for bounds in (around, [around[0], value], [value, around[1]]):  # the default may be the most there can be
            try:
                make_env(env_id, **{name: bounds})
            except ConfigError:
                continue
            found[name] = bounds
            break
    return found


def play(env: TensorEnv, drawn: Tensor, steps: int) -> Iterator[Tensor]:
    """All that can be seen of a few steps of the baseline, or of random actions."""
    rng = torch.Generator().manual_seed(0)
    env.draw_constants = lambda n, rng: drawn  # type: ignore[method-assign]
    state = env.reset(N, rng)
    by_baseline = type(env).baseline is not TensorEnv.baseline
    for _ in range(steps):
        action = env.baseline(state) if by_baseline else random_actions(env.action_space, N, env.device, rng)
        state, reward, terminated = env.step(state, action, rng)
        yield from (*leaves(env.observe(state)), reward, terminated, *env.info(state).values())


DRAWN = [id for id in env_specs() if ranges(id)]
WITHOUT_EFFECT = {
    ("rltrain/ArmPose-v0", "gravity"): "the controller makes up for it",
    ("rltrain/QuadrotorHover-v0", "period"): "the reference rests",
    ("rltrain/VerticalLanding-v0", "pad"): "the baseline lands in the middle of any",
    ("rltrain/VerticalLandingContinuous-v0", "pad"): "the baseline lands in the middle of any",
}
every_one = pytest.mark.parametrize("env_id", DRAWN)


def test_classic_control_is_among_them() -> None:
    assert {id for id, spec in env_specs().items() if spec.group == "classic"} <= set(DRAWN)


@every_one
def test_a_range_is_drawn_anew_for_each_row_and_episode_and_kept_until_its_end(env_id: str) -> None:
    bounds = ranges(env_id)
    vec = TensorVecEnv(make_env(env_id, **bounds), N, max_episode_steps=2)
    vec.env.reset_interval = 1  # type: ignore[misc]  # a start anew in every step
    vec.reset(0)
    first = vec.state.drawn
    assert first.shape == (N, len(bounds))
    constants = vec.env.constants_of(first)
    for name, (low, high) in bounds.items():
        value = getattr(constants, name)
        assert value.shape == (N,)
        assert ((value >= low) & (value <= high)).all()
        assert len(value.unique()) > N / 2
        assert value.max() - value.min() > (high - low) / 2
    assert torch.equal(getattr(vec.env.constants_of(first[3]), name), value[3])

    rng = torch.Generator().manual_seed(0)
    for _ in range(2):
        step = vec.step(random_actions(vec.env.action_space, N, vec.device, rng))
        ended = (step.terminated | step.truncated).unsqueeze(1)
        assert torch.equal(vec.state.drawn == first, ~ended.expand_as(first))
        first = vec.state.drawn
    assert ended.any()


@every_one
def test_what_is_drawn_acts_as_if_it_were_given(env_id: str) -> None:
    for name, (low, high) in ranges(env_id).items():
        env = make_env(env_id, **{name: [low, high]})
        lowest, highest = (torch.full((N, 1), end) for end in (low, high))
        both = zip(play(env, lowest, 200), play(env, highest, 200), strict=True)
        same = all(torch.equal(a, b) for a, b in both)
        assert same == ((env_id, name) in WITHOUT_EFFECT), name

        given = make_env(env_id, **{name: high})
        for a, b in zip(play(env, highest, 3), play(given, torch.empty(N, 0), 3), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
