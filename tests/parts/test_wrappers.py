"""Wrappers of vector environments, compared with recorded observations, also across ends of episodes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from countdown import Countdown
from counting import Counting
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.tree import leaves
from rltrain.vec import TensorVecEnv
from rltrain.wrappers import VecWrapper, wrap

N = 3


def counting(**options: Any) -> Any:
    return make_vec(Counting, N, vectorization="sync", **options)


def walk(vec: Any, steps: int, seed: int = 0) -> list[Any]:
    first = vec.reset(seed)
    action = torch.zeros((N, *vec.single_action_space.shape), dtype=torch.int64)
    return [first, *(vec.step(action) for _ in range(steps))]


@pytest.mark.parametrize("source", ["adapted", "tensors"])
def test_a_stack_holds_the_last_observations_and_none_of_another_episode(source: str) -> None:
    """Against a history kept by hand from the same environments without a stack."""
    size = 3
    if source == "adapted":
        plain, stacked = counting(length=4), counting(length=4, frame_stack=size)
    else:
        plain, stacked = (make_vec("rltrain/CartPole-v1", N, max_episode_steps=4, frame_stack=k) for k in (1, size))
    width = plain.single_observation_space.shape[0]
    assert stacked.single_observation_space.shape == (size * width,)
    single, several = walk(plain, 10), walk(stacked, 10)
    history = [torch.zeros(N, width)] * (size - 1) + [single[0]]
    assert torch.equal(several[0], torch.cat(history, 1))
    ended = 0
    for one, many in zip(single[1:], several[1:], strict=True):
        history = [*history[1:], one.final_obs]
        assert torch.equal(many.final_obs, torch.cat(history, 1))
        done = one.terminated | one.truncated
        ended += int(done.sum())
        fresh = [torch.zeros(N, width)] * (size - 1) + [one.obs]
        history = [torch.where(done[:, None], new, old) for new, old in zip(fresh, history, strict=True)]
        assert torch.equal(many.obs, torch.cat(history, 1))
        assert torch.equal(many.reward, one.reward)
    assert ended >= 2 * N


def test_pictures_are_stacked_along_their_channels_and_only_boxes_are() -> None:
    vec = counting(observation="bytes", frame_stack=2)
    assert vec.single_observation_space == spaces.Box(0, 255, (6, 6, 6), np.uint8)
    step = walk(vec, 2)[-1]
    assert step.final_obs[0, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]

    vec = counting(observation="nested", frame_stack=2)
    assert vec.single_observation_space["deep.count"].shape == (2,)
    assert vec.single_observation_space["pair.0"] == spaces.Discrete(100)
    assert walk(vec, 2)[-1].obs["deep.count"].tolist() == [[1.0, 2.0]] * N

    with pytest.raises(ConfigError, match="nothing to stack in Discrete"):
        counting(observation="discrete", frame_stack=2)


class Number(gymnasium.Env[Any, Any]):
    """Observes a single number: the steps of the episode, which has three."""

    observation_space = spaces.Box(1.0, 9.0, ())
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 1
        return np.float32(1), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return np.float32(self.time), 1.0, self.time == 4, False, {}


def test_single_numbers_are_stacked_to_a_vector() -> None:
    vec = make_vec(Number, N, frame_stack=3, vectorization="sync")
    assert vec.single_observation_space == spaces.Box(0.0, 9.0, (3,))
    first, *steps = walk(vec, 4)
    assert first.tolist() == [[0, 0, 1]] * N
    assert [step.final_obs[0].tolist() for step in steps] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 1, 2]]
    assert steps[2].obs.tolist() == [[0, 0, 1]] * N


@pytest.mark.parametrize("limit", [3, 5])
def test_the_time_is_the_share_of_the_limit_that_has_passed(limit: int) -> None:
    vec = counting(length=4, max_episode_steps=limit, time_aware=True)
    assert vec.single_observation_space.shape == (4,)
    first, *steps = walk(vec, 5)
    assert first[:, -1].tolist() == [0.0] * N
    length = min(limit, 4)
    for t, step in enumerate(steps, start=1):
        in_episode = (t - 1) % length + 1
        assert step.final_obs[:, -1].tolist() == pytest.approx([in_episode / limit] * N)
        assert step.obs[:, -1].tolist() == pytest.approx([in_episode % length / limit] * N)


def test_the_time_goes_beside_what_is_no_vector() -> None:
    vec = counting(observation="nested", max_episode_steps=4, time_aware=True)
    assert walk(vec, 1)[-1].obs["time"].tolist() == [[0.25]] * N
    vec = counting(observation="discrete", max_episode_steps=4, time_aware=True)
    assert vec.single_observation_space == spaces.Dict(
        {"observation": spaces.Discrete(100, start=-5), "time": spaces.Box(0.0, 1.0, (1,))}
    )
    assert walk(vec, 1)[-1].obs["observation"].tolist() == [-4] * N
    with pytest.raises(ConfigError, match="no time limit"):
        counting(time_aware=True)


class Colours(VecWrapper):
    """Pictures of known colours in place of the observations."""

    def __init__(self, vec: Any, picture: Tensor) -> None:
        super().__init__(vec)
        self.picture = picture
        self.single_observation_space = spaces.Box(0, 255, tuple(picture.shape), np.uint8)

    def reset(self, seed: int) -> Tensor:
        self.vec.reset(seed)
        return self.picture.expand(N, *self.picture.shape)

    def step(self, action: Tensor) -> Any:
        pictures = self.picture.expand(N, *self.picture.shape)
        return self.vec.step(action)._replace(obs=pictures, final_obs=pictures)


def test_pictures_turn_gray_and_small() -> None:
    picture = torch.zeros(4, 6, 3, dtype=torch.uint8)
    picture[:2, :3] = torch.tensor([100, 0, 0], dtype=torch.uint8)
    picture[2:] = torch.tensor([10, 20, 30], dtype=torch.uint8)
    vec = wrap(Colours(counting(), picture), grayscale=True, resize=(2, 2))
    assert vec.single_observation_space == spaces.Box(0, 255, (1, 2, 2), np.uint8)
    gray = round(0.299 * 10 + 0.587 * 20 + 0.114 * 30)
    for obs in (vec.reset(0), walk(vec, 1)[-1].final_obs):
        assert obs.dtype == torch.uint8  # type: ignore[union-attr]
        assert obs.tolist() == [[[[30, 0], [gray, gray]]]] * N  # type: ignore[union-attr]
    colour = wrap(Colours(counting(), picture), resize=2)
    assert colour.reset(0)[0, :, 1].tolist() == [[10, 10], [20, 20], [30, 30]]  # type: ignore[index]
    with pytest.raises(ConfigError, match="no pictures"):
        counting(grayscale=True)


def test_actions_are_scaled_to_their_bounds() -> None:
    vec = counting(action="box", rescale_action=True)
    assert vec.single_action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    vec.reset(0)
    vec.step(torch.tensor([[-1.0, -1.0], [0.0, 0.5], [1.0, 1.0]]))
    taken = [env.unwrapped.actions[-1].tolist() for env in vec._envs.envs]
    assert taken == [[-2.0, 0.0], [0.0, 7.5], [2.0, 10.0]]
    for options in ({"action": "two"}, {"action": "shifted"}):
        with pytest.raises(ConfigError, match="cannot be rescaled"):
            counting(rescale_action=True, **options)


def test_a_mask_is_left_alone() -> None:
    vec = make_vec(Countdown, N, frame_stack=2, time_aware=True, max_episode_steps=5)
    obs = vec.reset(0)
    assert isinstance(obs, dict)
    assert {name: tuple(x.shape) for name, x in obs.items()} == {
        "observation": (N, 4),
        "action_mask": (N, 3),
        "time": (N, 1),
    }


def test_a_stack_is_saved_and_goes_on_bit_for_bit() -> None:
    options: dict[str, Any] = {"frame_stack": 3, "time_aware": True, "max_episode_steps": 5}
    vec, other = (make_vec("rltrain/CartPole-v1", N, **options) for _ in range(2))
    walk(vec, 7)
    other.load_state_dict(vec.state_dict())
    action = torch.ones(N, dtype=torch.int64)
    for _ in range(6):
        step, same = vec.step(action), other.step(action)
        assert all(torch.equal(a, b) for a, b in zip(leaves(step.obs), leaves(same.obs), strict=True))
        assert torch.equal(step.final_obs, same.final_obs)


def test_options_of_adapters_are_not_for_tensors() -> None:
    for name, value in (("vectorization", "sync"), ("atari", True), ("start_method", "fork")):
        with pytest.raises(ConfigError, match=f"'{name}' is not for 'rltrain/CartPole-v1'"):
            make_vec("rltrain/CartPole-v1", 2, **{name: value})


def test_what_is_inside_can_be_reached() -> None:
    vec = make_vec("rltrain/CartPole-v1", 2, frame_stack=2)
    assert isinstance(vec, VecWrapper)
    assert isinstance(vec.vec, TensorVecEnv)
    assert vec.max_episode_steps == 500
    with pytest.raises(AttributeError):
        vec.nothing  # noqa: B018
