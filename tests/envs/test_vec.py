"""The vectorised environment keeps its promises, for every registered environment."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium import spaces
from torch import Tensor

from rltrain.dispatch import OpCounter, waits_of
from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.registry import env_specs, make_vec
from rltrain.rng import seeded, set_generator_state
from rltrain.spaces import random_actions
from rltrain.tree import from_dict, leaves
from rltrain.vec import TensorVecEnv, VecStep

N = 32
ENVS: list[str | type[TensorEnv]] = [*env_specs(), Countdown]
every_env = pytest.mark.parametrize("env", ENVS, ids=str)
BUDGET = {"rltrain/CartPole-v1": (31, 46), "rltrain/Pendulum-v1": (21, 35)}  # operations: env.step, vec.step


WITHOUT_CHOICE = {f"rltrain/Probe-{name}-v0" for name in ("ConstantReward", "ObservationReward", "Autoreset")}
"""Where no action makes a difference."""


class Player:
    """Random actions that the mask allows, from a generator of its own."""

    def __init__(self, vec: TensorVecEnv, seed: int = 0) -> None:
        self.space, self.device = vec.single_action_space, vec.device
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(self, obs: Observation) -> Tensor:
        mask = obs.get("action_mask") if isinstance(obs, dict) else None
        return random_actions(self.space, len(next(leaves(obs))), self.device, self.rng, mask)


def draws_nothing(vec: TensorVecEnv) -> bool:
    """Whether there is no chance in it at all: then no seed can make a difference."""
    rng = torch.Generator()
    before = rng.get_state()
    state = vec.env.reset(N, rng)
    vec.env.step(state, Player(vec)(vec.env.full_observe(state)), rng)
    return torch.equal(rng.get_state(), before)


def roll(vec: TensorVecEnv, obs: Observation, player: Player, steps: int) -> list[VecStep]:
    out = []
    for _ in range(steps):
        out.append(vec.step(player(obs)))
        obs = out[-1].obs
    return out


def tensors(step: VecStep) -> list[Tensor]:
    return [leaf for part in step for leaf in leaves(part)]


def same(a: list[VecStep], b: list[VecStep], row: int | None = None) -> bool:
    rows = slice(None) if row is None else row
    return all(
        torch.equal(x[rows], y[rows])
        for s, t in zip(a, b, strict=True)
        for x, y in zip(tensors(s), tensors(t), strict=True)
    )


@every_env
def test_shapes_types_and_bounds_over_2000_steps(env: Any) -> None:
    vec = make_vec(env, 8)
    obs = vec.reset(0)
    player = Player(vec)
    least, most = list(leaves(obs)), list(leaves(obs))
    rewards = torch.zeros(8)
    looks: list[tuple] = []
    ends = 0
    for _ in range(2_000):
        step = vec.step(player(obs))
        obs = step.obs
        now = [(leaf.shape, leaf.dtype) for leaf in tensors(step)]
        looks = looks or now
        assert now == looks
        for seen in (step.obs, step.final_obs):
            least = [torch.minimum(a, b) for a, b in zip(least, leaves(seen), strict=True)]  # NaN stays NaN
            most = [torch.maximum(a, b) for a, b in zip(most, leaves(seen), strict=True)]
        rewards += step.reward
        ends += int((step.terminated | step.truncated).sum())
    names = list(obs) if isinstance(obs, dict) else [""]
    for name, low, high in zip(names, least, most, strict=True):
        space = vec.single_observation_space
        space = space[name] if isinstance(space, spaces.Dict) else space
        assert_inside(low, space)
        assert_inside(high, space)
    assert all(leaf.shape[0] == 8 for leaf in tensors(step))
    assert step.reward.dtype == step.episode_return.dtype == torch.float32
    assert step.terminated.dtype == step.truncated.dtype == torch.bool
    assert step.episode_length.dtype == torch.int64
    assert torch.isfinite(rewards).all()
    assert ends > 0 or vec.max_episode_steps is None or vec.max_episode_steps > 2_000


def assert_inside(obs: Tensor, space: spaces.Space) -> None:
    array = obs.numpy()
    if isinstance(space, spaces.Box):
        assert (array.shape[1:], array.dtype) == (space.shape, space.dtype)
        assert ((array >= space.low) & (array <= space.high)).all()
    else:
        assert all(row.astype(space.dtype) in space for row in array)


@every_env
def test_truncation_at_the_limit_and_never_where_terminated(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=5)
    steps = roll(vec, vec.reset(0), Player(vec), 60)
    ended_by_limit = lasted = False
    for step in steps:
        assert not (step.terminated & step.truncated).any()
        assert (step.episode_length <= 5).all()
        assert torch.equal(step.truncated, (step.episode_length == 5) & ~step.terminated)
        ended_by_limit |= bool(step.truncated.any())
        lasted |= bool(((step.episode_length == 5) & ~step.terminated).any())
    assert ended_by_limit == lasted


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


@every_env
def test_autoreset_gives_a_fresh_start_and_the_true_final_observation(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=7)
    obs = vec.reset(0)
    player = Player(vec)
    ends = 0
    for _ in range(40):
        before, saved, rng = vec.state, copy.deepcopy(vec.state_dict()), torch.Generator()
        set_generator_state(rng, saved["rng"])
        action = player(obs)
        step = vec.step(action)
        led_to, reward, terminated = vec.env.step(before, action, rng)
        fresh = vec.env.full_observe(from_dict(before, saved["starts"]))
        done = step.terminated | step.truncated
        ends += int(done.sum())
        assert torch.equal(step.terminated, terminated)
        assert torch.equal(step.reward, reward.float())
        for got, final, start, true in zip(
            *(leaves(tree) for tree in (step.obs, step.final_obs, fresh, vec.env.full_observe(led_to))), strict=True
        ):
            assert torch.equal(final, true)
            assert torch.equal(got[done], start[done])
            assert torch.equal(got[~done], true[~done])
        obs = step.obs
    assert ends >= N


@every_env
def test_episode_statistics_against_a_plain_loop(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=23)
    returns, lengths, ends = [0.0] * N, [0] * N, 0
    for step in roll(vec, vec.reset(3), Player(vec), 100):
        for i in range(N):
            returns[i] += float(step.reward[i])
            lengths[i] += 1
            assert float(step.episode_return[i]) == pytest.approx(returns[i], rel=1e-5, abs=1e-5)
            assert int(step.episode_length[i]) == lengths[i]
            if step.terminated[i] or step.truncated[i]:
                returns[i], lengths[i], ends = 0.0, 0, ends + 1
    assert ends >= N


@every_env
def test_a_row_does_not_depend_on_the_other_rows(env: Any) -> None:
    runs = []
    for other in (0, 1):
        vec = make_vec(env, N, max_episode_steps=29)
        obs, mine, others = vec.reset(0), Player(vec, 2), Player(vec, 10 + other)
        steps = []
        for _ in range(120):
            action = others(obs)
            row = {name: part[:1] for name, part in obs.items()} if isinstance(obs, dict) else obs[:1]
            action[0] = mine(row)[0]
            steps.append(vec.step(action))
            obs = steps[-1].obs
        runs.append(steps)
    assert same(*runs, row=0)
    if str(env) not in WITHOUT_CHOICE:
        assert not same(*runs, row=1)
    assert any(step.truncated[0] or step.terminated[0] for step in runs[0])


@every_env
def test_equal_seeds_give_equal_runs(env: Any) -> None:
    def run(seed: int) -> list[VecStep]:
        vec = make_vec(env, N, max_episode_steps=11)
        return roll(vec, vec.reset(seed), Player(vec), 50)

    assert same(run(5), run(5))
    assert same(run(5), run(6)) == draws_nothing(make_vec(env, N))


@every_env
def test_a_loaded_state_continues_bit_for_bit(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=13)
    obs = roll(vec, vec.reset(0), Player(vec), 30)[-1].obs
    saved = copy.deepcopy(vec.state_dict())
    expected = roll(vec, obs, Player(vec, 1), 60)

    other = make_vec(env, N, max_episode_steps=13)
    other.load_state_dict(saved)
    assert same(roll(other, obs, Player(other, 1), 60), expected)
    assert any(step.truncated.any() or step.terminated.any() for step in expected)

    without_generator = make_vec(env, N, max_episode_steps=13)
    without_generator.load_state_dict({**saved, "rng": torch.Generator().manual_seed(99).get_state()})
    assert same(roll(without_generator, obs, Player(other, 1), 60), expected) == draws_nothing(vec)


def test_a_state_of_another_size_is_refused() -> None:
    small, large = make_vec(Countdown, 2), make_vec(Countdown, 3)
    small.reset(0)
    with pytest.raises(ValueError, match=r"shape \(2,\), expected \(3,\)"):
        large.load_state_dict(small.state_dict())


@every_env
def test_states_are_not_changed_in_place(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=3)
    obs, player = vec.reset(0), Player(vec)
    for _ in range(10):
        before, copied, seen = vec.state, copy.deepcopy(vec.state), copy.deepcopy(obs)
        after = vec.step(player(obs)).obs
        assert all(torch.equal(a, b) for a, b in zip(leaves(before), leaves(copied), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(leaves(obs), leaves(seen), strict=True))
        obs = after


@every_env
def test_runs_on_meta(env: Any) -> None:
    vec, real = make_vec(env, N, device="meta"), make_vec(env, N)
    vec.reset(0)
    action = Player(real)(real.reset(0))
    step, expected = vec.step(action.to("meta")), real.step(action)
    for got, like in zip(tensors(step), tensors(expected), strict=True):
        assert (got.device.type, got.shape, got.dtype) == ("meta", like.shape, like.dtype)


@every_env
def test_the_host_never_waits(env: Any) -> None:
    vec = make_vec(env, N, max_episode_steps=3)
    obs, player = vec.reset(0), Player(vec)
    for _ in range(vec.env.reset_interval + 3):
        action = player(obs)
        with OpCounter() as counter:
            obs = vec.step(action).obs
        assert counter.waits == []
        assert counter.total > 0


@pytest.mark.parametrize("env", ["rltrain/MountainCar-v0", "rltrain/Acrobot-v1", "rltrain/MiniGrid-Empty-5x5-v0"])
def test_a_step_compiles_as_one_piece_and_stays_what_it_was(env: str) -> None:
    def run(*, compiled: bool) -> list[VecStep]:
        vec = make_vec(env, N, max_episode_steps=11)
        with seeded(0):
            obs = vec.reset(None)
            if compiled:
                vec.compile(backend="eager")  # what torch captures, run as it is
            return roll(vec, obs, Player(vec), 30)

    assert same(run(compiled=True), run(compiled=False))
    torch.compiler.reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: elsewhere the two tests above stand in for it")
@every_env
def test_a_gpu_is_never_waited_for(env: Any) -> None:
    vec, twin = make_vec(env, N, device="cuda", max_episode_steps=3), make_vec(env, N)
    action = Player(twin)(twin.reset(0)).to("cuda")
    vec.reset(0)
    vec.step(action)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(vec.env.reset_interval + 3):
            step = vec.step(action)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(leaf.device.type == "cuda" for leaf in tensors(step))


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
        ("observation shape", r"observe returned observation of shape \(2, 1\) for 2 environments. Its shape must be"),
        ("observation tree", r"observe returned \['a'\]"),
        ("mask", r"observe returned action_mask of shape \(2, 2\)"),
        ("reward shape", r"step returned a reward of shape \(2, 1\) for 2 environments. Its shape must be \(2,\)"),
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
