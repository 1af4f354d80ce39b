"""The vectorised environment, beyond what test_conformance.py tests in every environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor

from rltrain.check.op_counter import OpCounter, waits_of
from rltrain.check.play import Player, difference, roll
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.rng import seeded
from rltrain.vec import TensorVecEnv, VecStep

N = 32
# operations: env.step, vec.step
BUDGET = {
    "rltrain/CartPole-v1": (31, 46),
    "rltrain/Pendulum-v1": (21, 35),
    "rltrain/ArmPose-v0": (309, 343),
    "rltrain/PlanarWalker-v0": (714, 768),
}


def test_termination_wins_at_the_limit() -> None:
    vec = TensorVecEnv(Countdown(start=6, spread=0), 2, max_episode_steps=2)
    vec.reset(0)
    vec.step(torch.tensor([2, 1]))
    step = vec.step(torch.tensor([2, 1]))  # row 0 takes the last of it at the limit, row 1 leaves some
    assert step.terminated.tolist() == [True, False]
    assert step.truncated.tolist() == [False, True]


def test_no_limit_never_truncates() -> None:
    vec = make_vec(Countdown, N)
    assert not any(step.truncated.any() for step in roll(vec, vec.reset(0), Player(vec), 20))


@pytest.mark.parametrize("env", ["rltrain/MountainCar-v0", "rltrain/Acrobot-v1", "rltrain/MiniGrid-Empty-5x5-v0"])
def test_a_step_compiles_as_one_piece_and_stays_what_it_was(env: str) -> None:
    def run(*, compiled: bool) -> list[VecStep]:
        vec = make_vec(env, N, max_episode_steps=11)
        with seeded(0):
            obs = vec.reset(None)
            if compiled:
                vec.compile(backend="eager")  # what torch captures, run as it is
            return roll(vec, obs, Player(vec), 30)

    assert difference(run(compiled=True), run(compiled=False)) is None
    torch.compiler.reset()


def test_a_state_of_another_size_is_refused() -> None:
    small, large = make_vec(Countdown, 2), make_vec(Countdown, 3)
    small.reset(0)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        large.load_state_dict(small.state_dict())


X, MASK = torch.ones(4), torch.tensor([True, False, True, False])
HIDDEN = {
    "masked assignment of a tensor": lambda: X.clone().__setitem__(MASK, torch.zeros(2)),
    "masked assignment of a number": lambda: X.clone().__setitem__(MASK, 0.0),
    "masked selection": lambda: X[MASK],
    "indexing by a 0-d tensor": lambda: X[torch.tensor(1)],
    "item": lambda: X[0].item(),
    "if": lambda: bool(X.any()),
    "nonzero": lambda: torch.where(MASK),
    "multinomial": lambda: torch.multinomial(X, 1),
    "normal": lambda: torch.normal(X, X),
    "Categorical": lambda: torch.distributions.Categorical(logits=X, validate_args=False).sample(),
    "unique": lambda: torch.unique(X),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_the_counter_sees_hidden_waits(name: str) -> None:
    assert waits_of(HIDDEN[name])
    assert waits_of(lambda: torch.where(MASK, X, 0.0) + X[torch.tensor([0, 1])].sum()) == []


@pytest.mark.parametrize("env", BUDGET)
def test_operations_per_step_stay_few(env: str) -> None:
    vec = make_vec(env, N)
    action = Player(vec)(vec.reset(0))
    with OpCounter() as whole:
        vec.step(action)
    with OpCounter() as inner:
        vec.env.step(vec.state, action, None)
    assert inner.total <= BUDGET[env][0]
    assert whole.total <= BUDGET[env][1]


def test_an_action_mask_comes_with_every_observation() -> None:
    vec = make_vec(Countdown, N)
    obs = vec.reset(0)
    assert isinstance(obs, dict)
    assert vec.single_observation_space == spaces.Dict(
        {"observation": vec.env.observation_space, "action_mask": spaces.MultiBinary(3)}
    )
    masked_ends = 0
    for step in roll(vec, obs, Player(vec), 30):
        for seen in (step.obs, step.final_obs):
            assert isinstance(seen, dict)
            left = seen["observation"][:, 0]
            assert seen["action_mask"].dtype == torch.bool
            assert torch.equal(seen["action_mask"], torch.stack([left > k for k in range(3)], -1))
        assert isinstance(step.obs, dict)
        assert isinstance(step.final_obs, dict)
        assert not step.final_obs["action_mask"][step.terminated].any()  # nothing is left to take
        assert step.obs["action_mask"][step.terminated].all()
        assert torch.equal(step.info["left"], step.final_obs["observation"][:, 0].long())  # read before the reset
        masked_ends += int(step.terminated.sum())
    assert masked_ends > N


def test_a_mask_needs_discrete_actions() -> None:
    env = Countdown()
    env.action_space = spaces.MultiDiscrete([3, 3])
    with pytest.raises(ConfigError, match="Discrete"):
        _ = env.full_observation_space


@pytest.mark.parametrize("wrong", [{"num_envs": 0}, {"num_envs": -1}, {"num_envs": 1, "max_episode_steps": 0}])
def test_sizes_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        make_vec(Countdown, **wrong)


def test_step_before_reset_says_so() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        make_vec(Countdown, 1).step(torch.zeros(1, dtype=torch.int64))


def test_rewards_are_float32_in_float64_environments() -> None:
    vec = make_vec("rltrain/Pendulum-v1", 2, dtype=torch.float64)
    assert np.dtype(vec.reset(0).numpy().dtype) == np.float64  # type: ignore[union-attr]
    step = vec.step(torch.ones(2, 1))
    assert step.reward.dtype == torch.float32
    assert step.obs.dtype == torch.float64  # type: ignore[union-attr]


class Wrong(Countdown):
    """A Countdown whose author made one mistake."""

    def __init__(self, *, mistake: str, **base: Any) -> None:
        super().__init__(**base)
        self.mistake = mistake

    def observe(self, state: Any) -> Any:
        obs = super().observe(state)
        return {"observation shape": obs[:, :1], "observation tree": {"a": obs}}.get(self.mistake, obs)

    def action_mask(self, state: Any) -> Tensor:
        mask = super().action_mask(state)
        return mask[:, :2] if self.mistake == "mask" else mask

    def full_observe(self, state: Any) -> Observation:
        return self.observe(state) if self.mistake == "observation tree" else super().full_observe(state)

    def step(self, state: Any, action: Tensor, rng: torch.Generator | None) -> Any:
        after, reward, terminated = super().step(state, action, rng)
        match self.mistake:
            case "reward shape":
                reward = reward.unsqueeze(1)
            case "reward device":
                reward = reward.to("meta")
            case "terminated type":
                terminated = terminated.long()
            case "terminated":
                terminated = False
            case "state shape":
                after.left = after.left.sum()
            case "state type":
                after.taken = after.taken.float()
        return after, reward, terminated


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (
            "observation shape",
            r"observe returned observation of shape \((\d), 1\) for \1 environments. Its shape must be",
        ),
        ("observation tree", r"observe returned \['a'\]"),
        ("mask", r"observe returned action_mask of shape \((\d), 2\) for \1 environments"),
        ("reward shape", r"step returned a reward of shape \((\d), 1\) for \1 environments. Its shape must be \(\1,\)"),
        ("reward device", r"step returned a reward on meta.*device=self.device"),
        ("terminated type", r"step returned terminated of type torch.int64. Its type must be torch.bool"),
        ("terminated", r"step returned terminated that is a bool"),
        ("state shape", r"step returned the state's left of shape \(\)"),
        ("state type", r"step returned the state's taken of type torch.float32"),
    ],
)
def test_an_authors_mistakes_are_named(mistake: str, words: str) -> None:
    def first_step() -> None:
        vec = make_vec(Wrong, 2, mistake=mistake)
        vec.reset(0)
        vec.step(torch.zeros(2, dtype=torch.int64))

    with pytest.raises(ConfigError, match=words):
        first_step()
