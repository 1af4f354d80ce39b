"""A recurrent state lasts as long as its episode: while collecting, evaluating and filming, alone and in company.

The agent says how many steps it remembers, and the environment rewards that with 1 if it is right.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from several import Several
from step_counter import CountingActor, Hidden, Memory
from torch import Tensor

import rltrain
from rltrain.evaluation.episodes import run_episodes
from rltrain.evaluation.video import record_episode
from rltrain.make import make_vec
from rltrain.runs.checkpoint import load_modules, load_policy, load_training
from rltrain.runs.layout import list_checkpoints

HIDDEN = "test/Hidden-v0"
OPTIONS: dict[str, Any] = {
    "num_envs": 6,
    "num_threads": 1,
    "device": "cpu",
    "n_eval_episodes": 9,
    "keep_checkpoints": 99,
    "trackers": [],
    "progress": False,
}


def everything(run: Path) -> dict[str, Tensor]:
    """The tensors of the last checkpoint but those of the clock."""
    last = list_checkpoints(run / "checkpoints")[-1]
    state = load_training(last)
    kept = {"rng": state["agent"]["rng"], "count": state["state"]["state"]["count"]}
    kept["trace"] = state["state"]["state"]["trace"]["0"]
    return {**load_policy(last), **load_modules(last), **kept}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_remembered(run: Path, steps: int) -> None:
    """Every step of training was counted right, and every end valued with the memory of its own episode."""
    modules = load_modules(list_checkpoints(run / "checkpoints")[-1])
    assert {name: int(x) for name, x in modules.items()} == {"mistakes": 0, "lost": 0, "recorded": steps}


def test_while_collecting_and_evaluating(tmp_path: Path) -> None:
    result = rltrain.train("step-counter", HIDDEN, total_timesteps=420, run_dir=tmp_path, eval_freq=84, **OPTIONS)
    assert_remembered(result.run_dir, 420)
    assert result.evaluation is not None
    assert result.evaluation.returns.tolist() == result.evaluation.lengths.tolist()
    assert len(set(result.evaluation.lengths.tolist())) > 2  # 2 to 6
    policy = rltrain.load(result.run_dir)
    again = policy.evaluate(40)
    assert again.returns.tolist() == again.lengths.tolist()


def test_what_the_tests_would_see() -> None:
    """With a memory that is never reset, or never kept, the rewards are fewer."""

    class Forgetful(CountingActor):
        def choose(self, obs: Any, state: Memory, **options: Any) -> Any:
            return super().choose(obs, state, **options)._replace(state=self.initial_state(len(obs)))

    vec = make_vec(HIDDEN, 4)
    result = run_episodes(Forgetful(), vec, 12)
    assert set(result.returns.tolist()) == {1.0}
    actor = CountingActor()
    obs, state, rewards = vec.reset(0), None, []
    for _ in range(12):
        action, state = actor(obs, state)
        step = vec.step(action)
        obs = step.obs
        rewards.append(step.reward)
    assert float(torch.stack(rewards).mean()) < 1


def test_while_filming(tmp_path: Path) -> None:
    vec = make_vec(Hidden, 1, render=True)
    frames = record_episode(vec, CountingActor(), seed=1)
    said = [int(np.asarray(frame)[0, 0, 0]) for frame in frames[1:]]
    assert said == list(range(len(said)))
    assert len(said) > 2
    run = rltrain.train("step-counter", HIDDEN, total_timesteps=84, run_dir=tmp_path, **OPTIONS).run_dir
    assert rltrain.load(run).film(tmp_path / "film.gif") >= 2


def test_while_predicting(tmp_path: Path) -> None:
    """By ``episode_start``, as with Stable-Baselines3, in environments whose episodes end at different times."""
    run = rltrain.train("step-counter", HIDDEN, total_timesteps=84, run_dir=tmp_path, **OPTIONS).run_dir
    policy, vec = rltrain.load(run), make_vec(HIDDEN, 5)
    obs, state, start = vec.reset(0), None, np.ones(5, bool)
    for _ in range(20):
        action, state = policy.predict(obs, state, episode_start=start)
        step = vec.step(action)
        assert step.reward.tolist() == [1.0] * 5
        obs, start = step.obs, (step.terminated | step.truncated).numpy()
    assert isinstance(state, Memory)
    first, state = policy.predict(np.zeros(1))
    second, state = policy.predict(np.zeros(1), state, episode_start=False)
    third, _ = policy.predict(np.zeros(1), state, episode_start=[True])
    assert (first, second, third) == (0, 1, 0)


class Killer(rltrain.Callback):
    """Ends the process in the middle of training, after some updates."""

    def __init__(self, updates: int) -> None:
        self.updates = updates

    def on_update(self, trainer: Any, metrics: Any) -> None:
        self.updates -= 1
        if self.updates == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def train_until_killed(run_dir: Path) -> None:
    options = {**OPTIONS, "total_timesteps": 420, "run_dir": run_dir, "save_freq": 84}
    rltrain.train("step-counter", HIDDEN, callbacks=[Killer(updates=6)], **options)


def test_through_a_kill_and_a_resume(tmp_path: Path) -> None:
    whole = rltrain.train("step-counter", HIDDEN, total_timesteps=420, run_dir=tmp_path, **OPTIONS).run_dir
    killed = Several(train_until_killed, tmp_path / "killed", size=1)
    assert killed.codes() == [-signal.SIGKILL]
    run = tmp_path / "killed" / whole.parent.name / whole.name
    in_the_middle = everything(run)["count"]
    assert in_the_middle.any()  # of episodes
    rltrain.resume(run, progress=False)
    assert same(everything(run), everything(whole))
    assert_remembered(run, 420)


def test_with_many_seeds_at_once(tmp_path: Path) -> None:
    options = {**OPTIONS, "total_timesteps": 420}
    runs = rltrain.train_seeds("step-counter", HIDDEN, 3, run_dir=tmp_path / "together", **options)
    for seed, result in runs.items():
        assert isinstance(result, rltrain.RunResult), result
        assert_remembered(result.run_dir, 420)
        alone = rltrain.train("step-counter", HIDDEN, seed=seed, run_dir=tmp_path / "alone", **options).run_dir
        assert same(everything(result.run_dir), everything(alone))
    before = [everything(result.run_dir)["count"] for result in runs.values() if isinstance(result, rltrain.RunResult)]
    assert any(not torch.equal(before[0], other) for other in before[1:])


def train_on_ranks(run_dir: Path, total: int) -> None:
    options = {**OPTIONS, "save_freq": 84, "progress": False}
    rltrain.train("step-counter", HIDDEN, total_timesteps=total, run_dir=run_dir, **options)


def resume_on_ranks(run: Path, total: int) -> None:
    rltrain.resume(run, total_timesteps=total, progress=False)


def counts(run: Path) -> list[list[int]]:
    """The memories of both ranks at the end."""
    last = list_checkpoints(run / "checkpoints")[-1]
    return [load_training(last, rank)["state"]["state"]["count"].tolist() for rank in range(2)]


def test_on_ranks(tmp_path: Path) -> None:
    assert Several(train_on_ranks, tmp_path / "whole", 420).codes() == [0, 0]
    assert Several(train_on_ranks, tmp_path / "parts", 210).codes() == [0, 0]
    whole, parts = (next((tmp_path / name).glob("*/step-counter_1")) for name in ("whole", "parts"))
    assert any(any(rank) for rank in counts(parts))
    assert Several(resume_on_ranks, parts, 420).codes() == [0, 0]
    for run in (whole, parts):
        assert_remembered(run, 210)  # of one rank
    assert counts(whole) == counts(parts)
    assert counts(whole)[0] != counts(whole)[1]
    last = [list_checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert same(*(load_policy(path) for path in last))
