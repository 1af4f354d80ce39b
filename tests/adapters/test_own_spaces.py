"""A policy speaks the spaces of the environment it was trained in: what ``reset`` and ``step`` give, and take."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import kinds_of_spaces
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from kinds_of_spaces import ACTIONS
from torch import Tensor

import rltrain
from rltrain.runs.policy import Policy

OBSERVATIONS: dict[str, spaces.Space] = {
    **kinds_of_spaces.OBSERVATIONS,
    "nested": spaces.Dict(
        {
            "deep": spaces.Dict({"image": spaces.Box(0, 255, (4, 4, 3), np.uint8), "count": spaces.Discrete(9)}),
            "pair": spaces.Tuple((spaces.MultiBinary((2, 2)), spaces.Tuple((spaces.Box(-1.0, 1.0, (2,)),)))),
            "words": spaces.Text(5),
        }
    ),
}
AGENT = {"n_steps": 16, "batch_size": 64, "n_epochs": 1, "learning_rate": 0.01, "policy_kwargs": {"ortho_init": False}}


class Kinds(gymnasium.Env[Any, Any]):
    """Samples of a kind of observation; it takes a kind of action, and exactly that, and says what it was given."""

    given: ClassVar[list[tuple[Any, Any]]] = []  # observations, and the actions that followed

    def __init__(self, sees: str = "vector", acts: str = "discrete") -> None:
        self.observation_space, self.action_space = OBSERVATIONS[sees], ACTIONS[acts]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert exactly_in(action, self.action_space), repr(action)
        Kinds.given.append((self.seen, action))
        self.steps += 1
        return self.observe(), float(self.np_random.random()), self.steps == 5, False, {}

    def observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.seen = backwards(self.observation_space.sample())
        return self.seen


def backwards(value: Any) -> Any:
    """Arrays as views that run backwards in memory, and cannot be written to."""
    if isinstance(value, dict):
        return {name: backwards(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(backwards(part) for part in value)
    if not isinstance(value, np.ndarray) or not value.ndim:
        return value
    view = value[::-1].copy()[::-1]
    view.flags.writeable = False
    return view


def exactly_in(action: Any, space: spaces.Space) -> bool:
    """Whether an action has the type, the shape and the range of a space."""
    if isinstance(space, spaces.Discrete):
        return type(action) in (int, np.int64) and space.contains(action)
    scalar = space.shape == () and isinstance(action, np.generic)  # as vector environments give it
    return (scalar or type(action) is np.ndarray) and action.dtype == space.dtype and space.contains(np.asarray(action))


Trained = Callable[..., Policy]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The policy of a short run, by kinds and options."""
    made: dict[str, Policy] = {}

    def train(sees: str, acts: str, algo: str = "ppo", env: Any = Kinds, **options: Any) -> Policy:
        key = repr((sees, acts, algo, env, options))
        if key not in made:
            given: dict[str, Any] = {"total_timesteps": 256, "num_envs": 4, "n_eval_episodes": 0, **options}
            if algo == "ppo":
                given["agent"] = AGENT
            if env is Kinds:
                given["env_kwargs"] = {"sees": sees, "acts": acts}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of text that is left out
                folder = tmp_path_factory.mktemp("runs")
                run = rltrain.train(algo, env, progress=False, run_dir=str(folder), **given).run_dir
            made[key] = rltrain.load(run, env=None if isinstance(env, str) else env)
        return made[key]

    return train


def numbers(value: Any) -> list[float]:
    return np.asarray(value, np.float64).ravel().tolist()


@pytest.mark.parametrize(("sees", "acts"), [*itertools.product(OBSERVATIONS, ACTIONS)])
def test_it_drives_the_plain_environment(sees: str, acts: str, trained: Trained) -> None:
    policy = trained(sees, acts)
    env = Kinds(sees, acts)
    obs, _ = env.reset(seed=3)
    state, done = None, False
    while not done:
        action, state = policy.predict(obs, state)
        assert type(action) is (int if isinstance(env.action_space, spaces.Discrete) else np.ndarray)
        obs, _, done, _, _ = env.step(action)

    several = SyncVectorEnv([lambda: Kinds(sees, acts)] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    obs, _ = several.reset(seed=5)
    for _ in range(7):
        before, first = len(Kinds.given), obs
        actions, _ = policy.predict(obs)
        assert actions.shape == (3, *(several.single_action_space.shape or ()))
        assert actions.dtype == several.single_action_space.dtype
        obs, *_ = several.step(actions)
        alone = [policy.predict(seen)[0] for seen, _ in Kinds.given[before:]]
        np.testing.assert_allclose(np.asarray(alone, np.float64), np.asarray(actions, np.float64), rtol=1e-5, atol=1e-6)
    assert first is not obs


@pytest.mark.parametrize(("sees", "acts"), [*zip(OBSERVATIONS, itertools.cycle(ACTIONS), strict=False)])
def test_it_acts_as_it_does_in_training(sees: str, acts: str, trained: Trained) -> None:
    """The adapter hands the environment what ``predict`` gives for the same observation."""
    policy = trained(sees, acts)
    Kinds.given.clear()
    policy.evaluate(3)
    assert len(Kinds.given) >= 15
    for seen, action in Kinds.given[:15]:
        np.testing.assert_allclose(numbers(policy.predict(seen)[0]), numbers(action), rtol=1e-5, atol=1e-6)
    if not isinstance(ACTIONS[acts], spaces.Discrete):
        assert len({tuple(numbers(action)) for _, action in Kinds.given}) > 1  # it does look at what it sees


def test_the_spaces_are_kept_with_the_run(trained: Trained) -> None:
    policy = trained("nested", "multi")
    assert policy.translation.observation_space == OBSERVATIONS["nested"]
    assert policy.translation.action_space == ACTIONS["multi"]
    assert policy.action_space == spaces.MultiDiscrete([2, 3, 4, 5], start=[0, 1, -2, 0])


def test_numbers_lists_and_tensors(trained: Trained) -> None:
    policy = trained("shifted", "shifted")
    for given in (-3, np.int64(-3), np.array(-3), -3.0):
        action, _ = policy.predict(given)
        assert type(action) is int
        assert action == policy.predict(-3)[0]
    assert policy.predict([-3, 0, 3])[0].tolist() == [policy.predict(each)[0] for each in (-3, 0, 3)]
    tensor, _ = policy.predict(torch.tensor(-3))
    assert isinstance(tensor, Tensor)
    assert (tensor.shape, int(tensor)) == ((), policy.predict(-3)[0])

    policy = trained("tuple", "multi")
    array, _ = policy.predict((4, [0.5, -0.5]))
    tensor, _ = policy.predict((torch.tensor([4, 4]), torch.tensor([[0.5, -0.5]] * 2)))
    assert isinstance(tensor, Tensor)
    assert tensor.shape == (2, 2, 2)
    assert tensor[0].tolist() == tensor[1].tolist() == array.tolist()
    image = np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
    policy = trained("image", "box")
    np.testing.assert_allclose(policy.predict(image.tolist())[0], policy.predict(image)[0])
    np.testing.assert_allclose(policy.predict(image.astype(np.float32))[0], policy.predict(image)[0])


@pytest.mark.parametrize(
    ("sees", "obs", "said"),
    [
        ("tuple", 3, "a tuple with '0'"),
        ("tuple", (3,), "a tuple with '1'"),
        ("tuple", (3, np.zeros(3)), r"1 has shape \(3,\), expected \(2,\) or \(N, 2,\)"),
        ("tuple", (np.array([3, 3]), np.zeros(2)), r"1 has shape \(2,\), expected \(2,\) or \(N, 2,\)"),
        ("nested", {"pair": (np.zeros((2, 2)), (np.zeros(2),))}, "a dict with 'deep.count'"),
        ("shifted", np.zeros((2, 2)), r"obs has shape \(2, 2\), expected \(\) or \(N,\)"),
        ("shifted", 0.5, "cannot hold: 0.5"),
        ("vector", (np.zeros(3), {}), r"Give its first value alone: reset returns \(obs, info\)"),
        ("image", np.full((6, 5, 3), 256), "uint8 cannot hold"),
        ("image", torch.full((6, 5, 3), 0.5), "uint8 cannot hold"),
    ],
)
def test_what_is_no_observation_is_told(sees: str, obs: Any, said: str, trained: Trained) -> None:
    with pytest.raises(ValueError, match=said):
        trained(sees, "discrete").predict(obs)


def test_options_around_the_environment(trained: Trained) -> None:
    """What they make of observations is asked for, and what they make of actions is done."""
    stacked = trained("vector", "box", env_options={"frame_stack": 2})
    with pytest.raises(
        ValueError, match=r"\(3,\), expected \(6,\).*the environment with frame_stack=2, as in training\. "
    ):
        stacked.predict(np.zeros(3))
    aware = trained("vector", "box", env_options={"time_aware": True, "max_episode_steps": 9})
    with pytest.raises(ValueError, match=r"the environment with time_aware=True, as in training\. Give"):
        aware.predict(np.zeros(3))
    action, _ = stacked.predict(np.zeros(6))
    assert exactly_in(action, ACTIONS["box"])

    rescaled = trained("vector", "box", env_options={"rescale_action": True})
    assert rescaled.action_space == spaces.Box(-1.0, 1.0, (2,))
    Kinds.given.clear()
    rescaled.evaluate(2)
    actions = np.array([action for _, action in Kinds.given])
    assert actions[:, 1].max() > 3.0  # not from -1 to 1
    np.testing.assert_allclose([rescaled.predict(seen)[0] for seen, _ in Kinds.given], actions, rtol=1e-5, atol=1e-5)


def test_our_own_environments_and_other_agents(trained: Trained) -> None:
    for env_id, algo in (("rltrain/Taxi-v4", "dqn"), ("rltrain/TaxiMasked-v4", "pqn"), ("rltrain/Blackjack-v1", "ppo")):
        policy = trained("", "", algo, env=env_id)
        env = gymnasium.make(env_id)
        obs, _ = env.reset(seed=0)
        for _ in range(5):
            action, _ = policy.predict(obs)
            assert type(action) is int
            obs, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                obs, _ = env.reset()


def test_a_run_that_does_not_tell_its_spaces_takes_those_of_the_agent(tmp_path: Path, trained: Trained) -> None:
    run = rltrain.train("ppo", Kinds, progress=False, run_dir=str(tmp_path), **SHORT).run_dir
    told = json.loads((run / "metadata.json").read_text())
    del told["env_observation_space"], told["env_action_space"]
    (run / "metadata.json").write_text(json.dumps(told))
    action, _ = rltrain.load(run).predict(np.zeros(3))
    assert type(action) is int


SHORT: dict[str, Any] = {"total_timesteps": 64, "num_envs": 4, "n_eval_episodes": 0, "agent": AGENT}
