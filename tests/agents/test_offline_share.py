"""Minibatches of which a part comes from a dataset."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bits import as_bits, last_state
from echo import collect, everything, flat, make_agent, make_echo, same
from gymnasium import spaces
from offline_sets import CHOICE, OBS, make_set

import rltrain
from rltrain.agents.dqn.agent import DQN
from rltrain.agents.sac.agent import SAC
from rltrain.check.op_counter import OpCounter
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError
from rltrain.recording.recorder import record
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints

NUMBERS = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 4.0], np.float32))
KINDS: dict[str, tuple[Any, spaces.Space, dict[str, Any]]] = {
    "dqn": (DQN, CHOICE, {"n_steps": 3}),
    "double dqn": (DQN, CHOICE, {"double_q": True}),
    "sac": (SAC, NUMBERS, {"gradient_steps": 3}),
    "sac, normalized": (SAC, NUMBERS, {"normalize_obs": True, "normalize_reward": True, "n_steps": 2}),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def make(name: str, path: Path, share: float = 0.25, seed: int = 0) -> Any:
    kind, space, options = KINDS[name]
    dataset = Dataset.open(path) if path.exists() else make_set(path, space)
    agent = make_agent(OBS, space, kind=kind, seed=seed, offline_fraction=share, **options)
    agent.use_data(dataset)
    return agent


@every_kind
def test_each_minibatch_has_its_share_of_the_data(tmp_path: Path, name: str) -> None:
    agent = make(name, tmp_path / "set")
    vec = make_echo(agent)
    obs = vec.reset(0)
    for _ in range(8):
        obs = collect(agent, vec, obs)
        agent.learn()
    known = {tuple(row) for row in Dataset.open(tmp_path / "set").take("obs", np.arange(184)).tolist()}
    drawn = agent.draw(5 * 16)
    of_data = [tuple(row) in known for row in drawn.obs.tolist()]
    assert of_data == ([False] * 12 + [True] * 4) * 5
    rows = drawn.place[torch.tensor(of_data)]
    wanted = agent.offline.data.at(rows)
    for column in ("obs", "reward", "next_obs", "discount", "terminated"):
        assert torch.equal(getattr(drawn, column)[torch.tensor(of_data)], getattr(wanted, column))
    back = agent.to_env(drawn.action)[torch.tensor(of_data)]
    torch.testing.assert_close(back, wanted.action)
    if agent.actor.__class__.__name__ == "SquashedActor":
        assert drawn.action.abs().max() <= 1.0


@every_kind
def test_it_goes_on_bit_for_bit_without_waiting(tmp_path: Path, name: str) -> None:
    agent, resumed = make(name, tmp_path / "set"), make(name, tmp_path / "set", seed=5)
    vec, other = make_echo(agent), make_echo(resumed)
    obs = vec.reset(0)
    for _ in range(12):
        obs = collect(agent, vec, obs)
        agent.learn()
    saved = copy.deepcopy((dict(agent.state_dict()), agent.training_state(), vec.state_dict(), obs))
    resumed.load_state_dict(saved[0])
    resumed.load_training_state(saved[1])
    other.load_state_dict(saved[2])
    before = flat(agent)
    for each, env, first in ((agent, vec, obs), (resumed, other, saved[3])):
        first = collect(each, env, first)
        with OpCounter() as counter:
            each.learn()
        assert counter.waits == []
    assert not torch.equal(flat(agent), before)
    assert same(everything(agent), everything(resumed))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"prioritized_replay": True}, "does not go together with prioritized_replay"),
        ({"n_sampled_goal": 4}, "does not go together with n_sampled_goal"),
        ({"offline_fraction": 0.01}, "of batch_size=16 is 0 transitions"),
        ({"offline_fraction": 0.99}, "of batch_size=16 is 16 transitions"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    agent = make_agent(OBS, CHOICE, kind=DQN, **{"offline_fraction": 0.5, **options})
    with pytest.raises(ConfigError, match=what):
        agent.use_data(make_set(tmp_path / "set"))


def test_a_run_with_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = record("rltrain/Pendulum-v1", tmp_path / "set", episodes=5, max_episode_steps=40)
    options: dict[str, Any] = {"progress": False, "num_threads": 1, "device": "cpu", "trackers": ["csv"]}
    agent = {"offline_fraction": 0.5, "batch_size": 16, "learning_starts": 20, "policy_kwargs": {"net_arch": [8]}}
    options |= {"data": str(data.path), "run_dir": tmp_path / "runs", "n_eval_episodes": 0, "num_envs": 2}
    run = rltrain.train("sac", "rltrain/Pendulum-v1", agent=agent, total_timesteps=80, save_freq=40, **options).run_dir
    folder, _ = RunFolder.open(run)
    assert folder.metadata()["dataset"]["checksum"] == data.checksum
    assert folder.config().env.max_episode_steps == 40  # as it was recorded
    wanted = as_bits(last_state(run))
    rltrain.resume(list_checkpoints(run / "checkpoints")[0], progress=False)
    assert as_bits(last_state(run)) == wanted
    words = ["train", "sac", "rltrain/Pendulum-v1", "--run-dir", str(tmp_path / "out"), "--total-timesteps", "80"]
    for wrong, what in (
        (["--agent.offline-fraction", "0.5"], "is the share of a dataset, and there is none"),
        (["--data", str(data.path)], "give --agent.offline-fraction 0.5"),
    ):
        assert main([*words, *wrong]) == 2
        captured = capsys.readouterr().err
        assert what in captured, captured
    assert not (tmp_path / "out").exists()
