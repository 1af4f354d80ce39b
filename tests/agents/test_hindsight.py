"""Hindsight experience replay: which goals transitions get, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from gymnasium import spaces
from torch import Tensor

import rltrain
from rltrain.agents.parts.hindsight import HindsightReplay
from rltrain.agents.parts.replay import Batch
from rltrain.envs.goal.bit_flip import BitFlip
from rltrain.errors import ConfigError, RunError
from rltrain.rng import make_generator
from rltrain.runs.layout import list_checkpoints
from rltrain.vec import ACHIEVED, DESIRED, Goals, VecStep

CPU = torch.device("cpu")
BITFLIP = "rltrain/BitFlip-v0"


class Told:
    """Plays episodes whose goals tell where they come from: environment, episode, and step within it."""

    def __init__(self, num_envs: int, capacity: int, n_sampled_goal: int = 4, seed: int = 0) -> None:
        self.replay = HindsightReplay(capacity, num_envs, CPU, gamma=0.9, n_sampled_goal=n_sampled_goal)
        self.replay.goals = Goals(lambda achieved, desired: (achieved == desired).all(1).float(), None)
        self.n = num_envs
        self.rng = np.random.default_rng(seed)
        self.episode, self.step = np.zeros(num_envs, int), np.zeros(num_envs, int)
        self.lengths: dict[tuple[int, int], int] = {}

    def observe(self, step: np.ndarray, episode: np.ndarray) -> dict[str, Tensor]:
        told = torch.tensor(np.stack([np.arange(self.n), episode, step], 1), dtype=torch.float32)
        return {ACHIEVED: told, DESIRED: -1.0 - told, "observation": told}

    def play(self, steps: int, end: float = 0.2) -> None:
        for _ in range(steps):
            self.replay.begin(self.observe(self.step, self.episode))
            after = self.observe(self.step + 1, self.episode)
            how = self.rng.random(self.n)
            terminated, truncated = how < end / 2, (how >= end / 2) & (how < end)
            done = terminated | truncated
            for k in range(self.n):
                self.lengths[k, self.episode[k]] = self.step[k] + 1
            zeros = torch.zeros(self.n)
            self.step, self.episode = np.where(done, 0, self.step + 1), self.episode + done
            following = self.observe(self.step, self.episode)
            flags = torch.from_numpy(terminated), torch.from_numpy(truncated)
            step: Any = VecStep(following, zeros - 7.0, *flags, after, zeros, zeros.long(), {})
            self.replay.add(torch.zeros(self.n, dtype=torch.int64), step)

    def draw(self, size: int = 4096) -> Batch:
        batch = self.replay.sample(size, torch.Generator().manual_seed(0))
        real = batch.weight > 0
        return Batch(*({k: v[real] for k, v in x.items()} if isinstance(x, dict) else x[real] for x in batch))


def parts(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What was acted on, what followed, and the goals."""
    obs: Any = batch.obs
    following: Any = batch.next_obs
    assert torch.equal(obs[DESIRED], following[DESIRED])
    return obs["observation"].numpy(), following[ACHIEVED].numpy(), obs[DESIRED].numpy()


@pytest.mark.parametrize("capacity", [40, 1000])  # the ring goes round many times, or not once
def test_goals_are_those_reached_later_in_the_same_episode(capacity: int) -> None:
    told = Told(4, capacity)
    for _ in range(6):
        told.play(37)
        here, after, goal = parts(told.draw())
        own = goal[:, 0] < 0  # the goal that was asked for
        assert (goal[own] == -1.0 - here[own]).all()
        later, start = goal[~own], here[~own]
        assert (later[:, :2] == start[:, :2]).all()  # of the same environment and episode
        assert (later[:, 2] > start[:, 2]).all()
        ends = np.array([told.lengths[int(k), int(e)] for k, e, _ in start])
        assert (later[:, 2] <= ends).all()
        assert (after[:, 2] == here[:, 2] + 1).all()


def test_every_later_step_is_as_likely() -> None:
    told = Told(1, 100)
    told.play(9, end=0.0)
    told.play(1, end=1.0)
    assert told.lengths[0, 0] == 10
    here, _, goal = parts(told.draw(60_000))
    chosen = (goal[:, 0] >= 0) & (here[:, 2] == 4)
    counts = np.bincount(goal[chosen][:, 2].astype(int), minlength=11)
    assert counts[:5].sum() == 0
    share = counts[5:] / counts.sum()
    assert share == pytest.approx(np.full(6, 1 / 6), abs=0.02)


@pytest.mark.parametrize("n_sampled_goal", [1, 4, 9])
def test_the_share_of_other_goals(n_sampled_goal: int) -> None:
    told = Told(8, 4000, n_sampled_goal)
    told.play(200)
    _, _, goal = parts(told.draw(40_000))
    assert (goal[:, 0] >= 0).mean() == pytest.approx(n_sampled_goal / (n_sampled_goal + 1), abs=0.01)


def test_rewards_are_those_of_the_goal_shown() -> None:
    told = Told(4, 2000)
    told.play(300)
    batch = told.draw()
    _, after, goal = parts(batch)
    own = goal[:, 0] < 0
    assert (batch.reward.numpy()[own] == -7.0).all()  # as it was given
    reached = (after == goal).all(1)
    assert np.array_equal(batch.reward.numpy()[~own], reached[~own].astype(np.float32))
    assert 0.05 < reached[~own].mean() < 0.9


@pytest.mark.parametrize("known", [False, True])
def test_terminations_follow_the_goal_where_the_environment_says_so(known: bool) -> None:
    told = Told(4, 2000)

    def equal(achieved: Tensor, desired: Tensor) -> Tensor:
        return (achieved == desired).all(1)

    told.replay.goals = Goals(lambda a, d: equal(a, d).float(), equal if known else None)
    told.play(300)
    batch = told.draw()
    here, after, goal = parts(batch)
    own = goal[:, 0] < 0
    reached = (after == goal).all(1)
    ends = np.array([told.lengths[int(k), int(e)] for k, e, _ in here])
    at_end = here[:, 2] + 1 == ends
    terminated = batch.terminated.numpy()
    assert not terminated[own][~at_end[own]].any()
    if known:
        assert np.array_equal(terminated[~own], reached[~own])
    else:
        assert not terminated[~at_end].any()


def test_it_continues_as_if_it_had_never_been_saved() -> None:
    whole, parted = Told(3, 60), Told(3, 60)
    for told in (whole, parted):
        told.play(50)
    other = HindsightReplay(60, 3, CPU, gamma=0.9, n_sampled_goal=4)
    other.load_state_dict(parted.replay.state_dict())
    other.goals, parted.replay = parted.replay.goals, other
    for told in (whole, parted):
        told.play(50)
    one, two = whole.draw(), parted.draw()
    for mine, theirs in zip(parts(one), parts(two), strict=True):
        assert np.array_equal(mine, theirs)


# In a run

AGENT = {"learning_starts": 64, "batch_size": 32, "n_sampled_goal": 4, "policy_kwargs": {"net_arch": [16]}}
OPTIONS: dict[str, Any] = {"progress": False, "total_timesteps": 256, "num_envs": 4, "n_eval_episodes": 0}


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    options = {**OPTIONS, "agent": AGENT, "run_dir": tmp_path, "save_freq": 128}
    run = rltrain.train("dqn", BITFLIP, **options).run_dir
    wanted = as_bits(last_state(run))
    rltrain.resume(list_checkpoints(run / "checkpoints")[0], progress=False)
    assert as_bits(last_state(run)) == wanted


@pytest.mark.parametrize(
    ("env", "agent", "text"),
    [
        ("rltrain/CartPole-v1", {"n_steps": 1}, "lacks an entry 'achieved_goal'"),
        (BITFLIP, {"n_steps": 3}, "does not go together with n_steps=3"),
        (BITFLIP, {"prioritized_replay": True}, "does not go together with prioritized_replay"),
    ],
)
def test_what_it_cannot_be_used_with(env: str, agent: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        rltrain.train("dqn", env, **{**OPTIONS, "agent": {**AGENT, **agent}, "run_dir": tmp_path / "runs"})
    assert not (tmp_path / "runs").exists()


class Point(gymnasium.Env):
    """A goal environment after Gymnasium-Robotics' interface: a point that is to go somewhere on a line."""

    def __init__(self, batched: bool = True, broken: bool = False) -> None:
        line = spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.observation_space = spaces.Dict({"observation": line, ACHIEVED: line, DESIRED: line})
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.batched, self.broken = batched, broken

    def _observe(self) -> dict[str, np.ndarray]:
        return {"observation": self.place.copy(), ACHIEVED: self.place.copy(), DESIRED: self.goal.copy()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = np.zeros(1, np.float32)
        self.goal = self.np_random.uniform(-1.5, 1.5, 1).astype(np.float32)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        self.place = np.clip(self.place + 0.2 * action, -2.0, 2.0).astype(np.float32)
        reward = float(np.squeeze(self.compute_reward(self.place, self.goal, {})))
        return self._observe(), reward, False, False, {}

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> Any:
        if self.broken:
            raise ValueError("no such goal")
        far = np.abs(achieved_goal - desired_goal)
        if not self.batched and far.shape != (1,):
            return 0.0
        return -(far[..., 0] > 0.1).astype(np.float32)


@pytest.fixture
def point() -> Any:
    gymnasium.register("Point-v0", Point, max_episode_steps=20)
    yield "Point-v0"
    del gymnasium.registry["Point-v0"]


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("batched", [True, False])
def test_gymnasiums_goal_environments(point: str, vectorization: str, batched: bool, tmp_path: Path) -> None:
    run = rltrain.train(
        "sac",
        point,
        **{**OPTIONS, "num_envs": 2, "agent": AGENT, "run_dir": tmp_path},
        env_kwargs={"batched": batched},
        env_options={"vectorization": vectorization},
    )
    assert run.steps >= 256


def test_rewards_of_gymnasiums_goals_by_hand(point: str) -> None:
    vec: Any = rltrain.make_vec(point, 2)
    achieved, desired = torch.tensor([[0.0], [1.0], [0.5]]), torch.tensor([[0.05], [1.2], [0.5]])
    assert vec.compute_reward(achieved, desired).tolist() == [0.0, -1.0, 0.0]
    assert vec.compute_terminated is None
    vec.close()


def test_an_environment_that_fails_to_say_a_reward(point: str, tmp_path: Path) -> None:
    vec: Any = rltrain.make_vec(point, 1, broken=True)
    with pytest.raises(RunError, match=r"'Point-v0' fails in compute_reward: .*no such goal"):
        vec.compute_reward(torch.zeros(2, 1), torch.zeros(2, 1))
    vec.close()


# BitFlip


def test_bit_flip_by_hand() -> None:
    env = BitFlip(bits=3)
    state = env.reset(1, make_generator("cpu", 0))
    state.bits, state.goal = torch.tensor([[False, True, False]]), torch.tensor([[True, True, False]])
    state, reward, terminated = env.step(state, torch.tensor([2]), None)
    assert (state.bits.tolist(), reward.item(), terminated.item()) == ([[False, True, True]], -1.0, False)
    state, reward, terminated = env.step(state, torch.tensor([2]), None)
    state, reward, terminated = env.step(state, torch.tensor([0]), None)
    assert (reward.item(), terminated.item()) == (0.0, True)
    assert env.info(state)["is_success"].item()
    assert env.compute_reward(torch.eye(3), torch.eye(3)[[0, 2, 2]]).tolist() == [0.0, -1.0, 0.0]


def test_bit_flip_never_starts_at_its_goal() -> None:
    env = BitFlip(bits=2)
    state = env.reset(4096, make_generator("cpu", 0))
    assert not (state.bits == state.goal).all(1).any()
    assert state.bits.float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_baseline_of_bit_flip_takes_as_many_steps_as_bits_are_wrong() -> None:
    vec = rltrain.make_vec(BITFLIP, 64)
    vec.reset(0)
    env: Any = vec
    wrong = (env.state.bits != env.state.goal).sum(1)
    ended = torch.zeros(64, dtype=torch.bool)
    for k in range(1, 21):
        step = vec.step(env.env.baseline(env.state))
        now = step.terminated & ~ended
        assert (wrong[now] == k).all()
        ended |= step.terminated
    assert ended.all()
