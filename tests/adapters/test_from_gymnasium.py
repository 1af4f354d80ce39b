"""Gymnasium's environments through our adapter, checked with an environment that counts."""

from __future__ import annotations

from typing import Any

import counting
import gymnasium
import numpy as np
import pytest
import torch
from counting import Counting
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from rltrain.adapters.from_gymnasium import GymVecEnv, choose
from rltrain.adapters.gymnasium_ids import make_recipe
from rltrain.env import Observation
from rltrain.errors import ConfigError, RunError
from rltrain.make import make_vec
from rltrain.registry import env_spec
from rltrain.spaces import random_actions
from rltrain.tree import leaves
from rltrain.vec import VecStep

N = 3
WAYS = ("sync", "async")


def make(n: int = N, **options: Any) -> GymVecEnv:
    vec = make_vec("Counting-v0", n, **{"vectorization": "sync", **options})
    assert isinstance(vec, GymVecEnv)
    return vec


def zeros(vec: Any) -> Tensor:
    return torch.zeros((vec.num_envs, *vec.single_action_space.shape), dtype=torch.int64)


def play(vec: Any, steps: int) -> tuple[Observation, list[VecStep]]:
    """The first observation and the steps under the same random actions each time."""
    rng = torch.Generator().manual_seed(1)
    first = vec.reset(0)
    return first, [
        vec.step(random_actions(vec.single_action_space, vec.num_envs, vec.device, rng)) for _ in range(steps)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_finished_episode_is_followed_by_the_next_in_the_same_step(way: str) -> None:
    vec = make(length=4, vectorization=way)
    first, steps = play(vec, 9)
    vec.close()
    assert first[:, 1:].tolist() == [[1, 0]] * N
    for t, step in enumerate(steps, start=1):
        in_episode, episode = (t - 1) % 4 + 1, (t - 1) // 4 + 1
        ended = in_episode == 4
        assert step.final_obs[:, 1:].tolist() == [[episode, in_episode]] * N
        assert step.obs[:, 1:].tolist() == [[episode + 1, 0] if ended else [episode, in_episode]] * N
        assert step.reward.tolist() == [in_episode] * N
        assert step.terminated.tolist() == [ended] * N
        assert not step.truncated.any()
        assert step.episode_return.tolist() == [in_episode * (in_episode + 1) / 2] * N
        assert step.episode_length.tolist() == [in_episode] * N
        assert step.info == {}


def test_types_and_shapes_are_those_of_a_vec_step() -> None:
    vec = make()
    vec.reset(0)
    step = vec.step(zeros(vec))
    for name, dtype in {
        "obs": torch.float32,
        "reward": torch.float32,
        "terminated": torch.bool,
        "truncated": torch.bool,
        "final_obs": torch.float32,
        "episode_return": torch.float32,
        "episode_length": torch.int64,
    }.items():
        value = getattr(step, name)
        assert (value.dtype, value.shape) == (dtype, (N, 3) if "obs" in name else (N,)), name


@pytest.mark.parametrize(("cut", "limit"), [(3, None), (None, 3)])
def test_truncation_by_the_environment_or_the_limit(cut: int | None, limit: int | None) -> None:
    vec = make(length=100, cut=cut, **({} if limit is None else {"max_episode_steps": limit}))
    _, steps = play(vec, 3)
    assert [step.truncated.all().item() for step in steps] == [False, False, True]
    assert not any(step.terminated.any() for step in steps)
    assert steps[2].final_obs[0, 2] == 3
    assert steps[2].obs[0, 2] == 0
    assert vec.max_episode_steps == (limit or 7)


def test_the_registered_limit_holds_unless_another_is_given() -> None:
    assert [step.truncated.any().item() for step in play(make(length=100), 8)[1]].index(True) == 6
    assert [step.truncated.any().item() for step in play(make(length=100, max_episode_steps=2), 4)[1]].index(True) == 1


def test_terminated_wins_over_truncated() -> None:
    for options in ({"length": 3, "cut": 3}, {"length": 3, "max_episode_steps": 3}):
        step = play(make(**options), 3)[1][-1]
        assert step.terminated.all()
        assert not step.truncated.any()


def test_a_step_stays_as_it_was_when_the_next_one_comes() -> None:
    vec = make()
    first, steps = play(vec, 5)
    assert first[:, 2].tolist() == [0] * N
    assert [step.final_obs[0, 2].item() for step in steps] == [1, 2, 3, 4, 1]


def test_success_is_said_where_the_environment_says_it() -> None:
    _, steps = play(make(length=2, success=True), 4)
    assert steps[0].info == {}
    assert steps[1].info["is_success"].tolist() == [0.0] * N
    assert steps[2].info["is_success"].isnan().all()
    assert steps[3].info["is_success"].tolist() == [1.0] * N


@pytest.mark.parametrize(
    ("kind", "space", "dtype", "second"),
    [
        ("vector", spaces.Box(-np.inf, np.inf, (3,), np.float32), torch.float32, None),
        ("bytes", spaces.Box(0, 255, (6, 6, 3), np.uint8), torch.uint8, np.full((6, 6, 3), 1)),
        ("wide", spaces.Box(0, 1000, (2,), np.int32), torch.int32, [1, 1]),
        ("discrete", spaces.Discrete(100, start=-5), torch.int64, -4),
        ("multi", spaces.MultiDiscrete([9, 100, 9, 100]), torch.int64, [1, 1, 0, 1]),
        ("binary", spaces.MultiBinary(4), torch.int8, [1, 1, 0, 1]),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_observation(way: str, kind: str, space: spaces.Space, dtype: torch.dtype, second: Any) -> None:
    vec = make(observation=kind, vectorization=way)
    first, steps = play(vec, 4)
    vec.close()
    assert vec.single_observation_space == space
    for obs in (first, steps[0].obs, steps[3].final_obs):
        assert isinstance(obs, Tensor)
        assert (obs.dtype, obs.shape) == (dtype, (N, *space.shape))
    if second is not None:
        assert np.array_equal(steps[0].obs[1].numpy(), second)


@pytest.mark.parametrize("way", WAYS)
def test_nested_observations_become_a_flat_dict_and_text_is_left_out(way: str) -> None:
    vec = make(observation="nested", length=2, vectorization=way)
    first, steps = play(vec, 2)
    vec.close()
    assert vec.left_out == ["words"]
    assert vec.single_observation_space == spaces.Dict(
        {
            "deep.count": spaces.Box(0, 100, (1,), np.float32),
            "pair.0": spaces.Discrete(100),
            "pair.1": spaces.MultiBinary(2),
        }
    )
    assert isinstance(first, dict)
    assert list(first) == list(vec.single_observation_space)
    last = steps[1]
    assert isinstance(last.obs, dict)
    assert isinstance(last.final_obs, dict)
    assert last.final_obs["deep.count"].tolist() == [[2.0]] * N
    assert last.final_obs["pair.1"].tolist() == [[1, 0]] * N
    assert last.obs["pair.0"].tolist() == [0] * N
    assert last.obs["pair.1"].tolist() == [[0, 0]] * N


@pytest.mark.parametrize(("kind", "named"), [("graph", "Graph"), ("text", "Text")])
def test_what_cannot_be_a_tensor_is_refused(kind: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"there is a {named}"):
        make(observation=kind)
    with pytest.raises(ConfigError, match="no agents that act in Text"):
        make(action="words")


EMPTY = spaces.Box(-1.0, 1.0, (0,))


class Spaces(gymnasium.Env[Any, Any]):
    """Has the spaces that it is told to have."""

    def __init__(self, sees: spaces.Space, acts: spaces.Space) -> None:
        self.observation_space, self.action_space = sees, acts


@pytest.mark.parametrize(
    ("sees", "acts", "cause"),
    [
        (EMPTY, spaces.Discrete(2), r"nothing to observe in Box"),
        (spaces.Box(0, 255, (3, 0), np.uint8), spaces.Discrete(2), "nothing to observe in Box"),
        (spaces.Dict({"a": spaces.Discrete(2), "b": EMPTY}), spaces.Discrete(2), r"nothing to observe in Box.* at 'b'"),
        (spaces.Dict({}), spaces.Discrete(2), "nothing to observe in Dict"),
        (
            spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})}),
            spaces.Discrete(2),
            "Two entries of the observation are called 'a.b'",
        ),
        (spaces.Discrete(2), EMPTY, r"nothing to choose in the action space Box"),
    ],
)
def test_spaces_with_nothing_in_them_are_refused(sees: spaces.Space, acts: spaces.Space, cause: str) -> None:
    with pytest.raises(ConfigError, match=cause):
        make_vec(Spaces, 2, sees=sees, acts=acts)


def taken(vec: GymVecEnv) -> list[Any]:
    return [env.unwrapped.actions[-1] for env in vec._envs.envs]  # type: ignore[attr-defined]


def test_actions_arrive_as_the_environment_wants_them() -> None:
    vec = make(2, action="shifted")
    assert vec.single_action_space == spaces.Discrete(3, start=-1)
    vec.reset(0)
    vec.step(torch.tensor([-1, 1]))
    assert taken(vec) == [-1, 1]

    vec = make(2, action="box")
    assert vec.single_action_space == spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float32)
    vec.reset(0)
    vec.step(torch.tensor([[-5.0, -1.0], [1.5, 30.0]]))
    assert [action.tolist() for action in taken(vec)] == [[-2.0, 0.0], [1.5, 10.0]]
    assert taken(vec)[0].dtype == np.float64

    vec = make(2, action="bytes")
    assert vec.single_action_space == spaces.Box(0.0, 255.0, (2,), np.float32)
    vec.reset(0)
    vec.step(torch.tensor([[1.4, 1.6], [-3.0, 256.0]]))
    assert [action.tolist() for action in taken(vec)] == [[1, 2], [0, 255]]

    vec = make(1, action="multi")
    assert vec.single_action_space == spaces.MultiDiscrete([2, 3, 4, 5])
    vec.reset(0)
    vec.step(torch.tensor([[1, 2, 3, 4]]))
    assert taken(vec)[0].tolist() == [[1, 2], [3, 4]]

    vec = make(1, action="binary")
    assert vec.single_action_space == spaces.MultiBinary(4)
    vec.reset(0)
    vec.step(torch.tensor([[1, 0, 0, 1]], dtype=torch.int8))
    assert taken(vec)[0].tolist() == [[1, 0], [0, 1]]


def test_an_action_that_was_given_is_not_changed_by_the_next() -> None:
    vec = make(1, action="box")
    vec.reset(0)
    for value in (1.0, 2.0):
        vec.step(torch.tensor([[value, value]]))
    actions = vec._envs.envs[0].unwrapped.actions  # type: ignore[attr-defined]
    assert [action.tolist() for action in actions] == [[1.0, 1.0], [2.0, 2.0]]


def test_actions_of_another_shape_are_refused() -> None:
    vec = make()
    vec.reset(0)
    with pytest.raises(ValueError, match="expected"):
        vec.step(torch.zeros(N, 1, dtype=torch.int64))


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_workers_give_the_stream_that_the_loop_gives(env_id: str) -> None:
    streams = []
    for options in ({"vectorization": "sync"}, {"vectorization": "async"}):
        vec = make_vec(env_id, 5, **options)
        streams.append(play(vec, 60))
        vec.close()
    (first, steps), (other_first, other_steps) = streams
    assert same(first, other_first)
    ended = 0
    for step, other in zip(steps, other_steps, strict=True):
        assert all(same(a, b) for a, b in zip(step[:-1], other[:-1], strict=True))
        ended += int((step.terminated | step.truncated).sum())
    assert ended or env_id == "Pendulum-v1"


def test_the_loop_gives_what_gymnasiums_own_gives() -> None:
    """The same seeds, the same actions: every field, against SyncVectorEnv in same-step mode."""
    vec = make_vec("CartPole-v1", N, vectorization="sync")
    theirs = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * N, autoreset_mode=AutoresetMode.SAME_STEP)
    obs = vec.reset(3)
    seeds = [env.unwrapped.np_random_seed for env in vec._envs.envs]  # type: ignore[attr-defined]
    assert len(set(seeds)) == N
    assert np.array_equal(obs.numpy(), theirs.reset(seed=seeds)[0])
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(100):
        action = rng.integers(2, size=N)
        step = vec.step(torch.from_numpy(action))
        obs, reward, terminated, truncated, info = theirs.step(action)
        assert np.array_equal(step.obs.numpy(), obs)
        assert np.array_equal(step.reward.numpy(), reward)
        assert np.array_equal(step.terminated.numpy(), terminated)
        assert np.array_equal(step.truncated.numpy(), truncated)
        for i in np.flatnonzero(terminated | truncated):
            assert np.array_equal(step.final_obs[i].numpy(), info["final_obs"][i])
            ended += 1
    assert ended >= 10


@pytest.mark.parametrize("way", WAYS)
def test_the_same_seed_gives_the_same_stream_and_another_another(way: str) -> None:
    draws = []
    for seed in (0, 0, 1):
        vec = make(vectorization=way)
        draws.append(vec.reset(seed)[:, 0].tolist())
        vec.close()
    assert draws[0] == draws[1] != draws[2]
    assert len(set(draws[0])) > 1  # every environment has its own


def test_with_rendering_a_finished_episode_is_left_as_it_is() -> None:
    vec = make(1, render=True, length=2)
    vec.reset(0)
    assert vec.render()[0, 0, 0] == 0
    vec.step(zeros(vec))
    step = vec.step(zeros(vec))
    assert step.terminated.item()
    assert vec.render()[0, 0, 0] == 2
    assert same(step.obs, step.final_obs)
    assert vec.render_fps == 5


class Batch(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Counting-v0's vector form, in the mode asked for."""

    def __init__(self, num_envs: int, autoreset_mode: Any = AutoresetMode.NEXT_STEP, **kwargs: Any) -> None:
        kwargs.pop("max_episode_steps", None)
        env = SyncVectorEnv([lambda: Counting(**kwargs)] * num_envs, autoreset_mode=autoreset_mode)
        self.env, self.num_envs = env, num_envs
        self.metadata = {**env.metadata, "autoreset_mode": autoreset_mode}
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.env.reset(seed=seed)

    def step(self, actions: Any) -> Any:
        return self.env.step(actions)


class NextStep(Batch):
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int, **kwargs: Any) -> None:
        super().__init__(num_envs, **kwargs)


class Unlimited(Batch):
    """Takes no time limit, as that of Atari games."""

    def __init__(self, num_envs: int, autoreset_mode: Any = AutoresetMode.NEXT_STEP) -> None:
        super().__init__(num_envs, autoreset_mode)


@pytest.fixture
def vector_forms(clean_registries: None) -> None:
    gymnasium.register("Batched-v0", entry_point=Counting, vector_entry_point=Batch)
    gymnasium.register("NextStep-v0", entry_point=Counting, vector_entry_point=NextStep)
    gymnasium.register("Unlimited-v0", entry_point=Counting, vector_entry_point=Unlimited)


@pytest.mark.usefixtures("vector_forms")
@pytest.mark.parametrize("observation", ["vector", "nested"])
def test_a_vector_form_that_can_reset_in_the_same_step_is_used(observation: str) -> None:
    options = {"observation": observation, "success": True}
    vec, loop = (make_vec("Batched-v0", N, **options, vectorization=way) for way in ("auto", "sync"))
    assert isinstance(vec, GymVecEnv)
    assert vec.vectorization == "vector"
    pairs = zip(play(vec, 10)[1], play(loop, 10)[1], strict=True)
    for step, other in pairs:
        for name in VecStep._fields[:-1]:
            a, b = getattr(step, name), getattr(other, name)
            if name.endswith("obs") and observation == "vector":
                a, b = a[:, 1:], b[:, 1:]  # they seed their environments otherwise
            assert same(a, b), name
        assert ("is_success" in step.info) == ("is_success" in other.info)
    assert torch.equal(step.info["is_success"].isnan(), other.info["is_success"].isnan())


@pytest.mark.usefixtures("vector_forms")
@pytest.mark.parametrize("env_id", ["NextStep-v0", "CartPole-v1", "Counting-v0"])
def test_a_vector_form_that_resets_in_the_next_step_is_not_used(env_id: str) -> None:
    vec = make_vec(env_id, 2)
    assert isinstance(vec, GymVecEnv)
    assert vec.vectorization in WAYS
    vec.close()
    with pytest.raises(ConfigError, match="has no vector form"):
        make_vec(env_id, 2, vectorization="vector")


@pytest.mark.usefixtures("vector_forms")
def test_a_vector_form_without_time_limits_is_not_used_where_there_is_one() -> None:
    for limit, chosen in ((None, {"vector"}), (2, set(WAYS))):
        vec = make_vec("Unlimited-v0", 2, max_episode_steps=limit)
        assert isinstance(vec, GymVecEnv)
        assert vec.vectorization in chosen
        vec.reset(0)
        vec.step(zeros(vec))
        assert vec.step(zeros(vec)).truncated.all() == (limit == 2)
        vec.close()


def test_the_trial_takes_workers_for_slow_environments_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    seconds = {0.0: 1e-6, 1.0: 1e-3}
    monkeypatch.setattr("rltrain.adapters.from_gymnasium.seconds_per_step", lambda env: seconds[env.unwrapped.slow])
    for slow, expected in ((0.0, ("sync", 1)), (1.0, ("async", 2))):
        recipe = make_recipe(env_spec("Counting-v0"), {"slow": slow}, None, atari=False, render=False)
        env = recipe.make()
        assert choose(recipe, env, 8, "auto", native=False) == expected
        assert choose(recipe, env, 1, "auto", native=False) == ("sync", 1)
        assert choose(recipe, env, 8, "async", native=False) == ("async", 2)


@pytest.mark.parametrize("way", WAYS)
def test_an_error_in_an_environment_names_it(way: str) -> None:
    vec = make(fail_at=3, vectorization=way)
    vec.reset(0)
    vec.step(zeros(vec))
    vec.step(zeros(vec))
    with pytest.raises(RunError, match=r"Environment 0 failed in step: ZeroDivisionError: as was asked for\."):
        vec.step(zeros(vec))
    vec.close()


class Liar(Counting):
    """Says one shape and gives another."""

    def observe(self) -> Any:
        return np.zeros(2)


def test_observations_of_another_shape_than_said_are_named() -> None:
    with pytest.raises(ConfigError, match=r"in reset: the observation is of shape \(2,\), and its space has \(3,\)"):
        make_vec(Liar, 2, vectorization="sync")


class NeverClosed(Counting):
    """Has nothing to close, and trips over that."""

    def close(self) -> None:
        raise AttributeError("screen")


def test_what_goes_wrong_in_closing_is_of_no_consequence() -> None:
    vec = make_vec(NeverClosed, 2)
    assert play(vec, 1)[1]
    vec.close()


def test_what_fails_in_the_trial_is_named_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    with pytest.raises(ConfigError, match="'Counting-v0' fails in its first steps: ZeroDivisionError"):
        make_vec("Counting-v0", 2, fail_at=3)


def test_a_class_needs_no_registration() -> None:
    vec = make_vec(Counting, 2, length=2, max_episode_steps=9, vectorization="sync")
    assert play(vec, 2)[1][1].terminated.all()
    assert vec.max_episode_steps == 9  # type: ignore[attr-defined]


def test_counts_are_checked() -> None:
    for name in ("num_envs", "max_episode_steps"):
        with pytest.raises(ConfigError, match=f"{name}=0"):
            make_vec("Counting-v0", **{"num_envs": 2, name: 0})


assert counting  # registers
