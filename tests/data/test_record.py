"""Recordings have exactly the episodes asked for, as they were played, without favouring short ones; they go on."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import rltrain
from rltrain.cli import main
from rltrain.data.dataset import Dataset
from rltrain.errors import ConfigError, DatasetError
from rltrain.process import stopping
from rltrain.recording import rounds
from rltrain.recording.recorder import record, shares_of

CARTPOLE = "rltrain/CartPole-v1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options: dict[str, Any] = {"agent": {"n_steps": 16}, "num_envs": 16, "n_eval_episodes": 1, "trackers": []}
    folder = tmp_path_factory.mktemp("runs")
    return rltrain.train("ppo", CARTPOLE, total_timesteps=256, run_dir=folder, device="cpu", **options).run_dir


def replay(dataset: Dataset, env: gymnasium.Env) -> None:
    """Plays every episode again from its seed, and compares every number."""
    for number in range(len(dataset.episodes)):
        episode = dataset.episode(number)
        obs, _ = env.reset(seed=int(dataset.episodes.seed[number]))
        for t, action in enumerate(episode["action"]):
            assert np.array_equal(episode["obs"][t], obs)
            obs, reward, terminated, truncated, _ = env.step(env.action_space.dtype.type(action))
            assert (episode["reward"][t], episode["terminated"][t]) == (reward, terminated)
            assert episode["truncated"][t] == (truncated and not terminated)
        assert np.array_equal(episode["obs"][-1], obs)
        assert terminated or truncated


@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_episodes_of_gymnasium_are_played_again_from_their_seeds(tmp_path: Path, vectorization: str) -> None:
    dataset = record("CartPole-v1", tmp_path / "set", episodes=7, num_envs=3, seed=5, vectorization=vectorization)
    assert len(dataset.episodes) == 7
    assert len(set(dataset.episodes.seed.tolist())) == 7
    with gymnasium.make("CartPole-v1") as env:
        replay(dataset, env)


def test_episodes_of_ours_end_where_the_environment_says(tmp_path: Path, run: Path) -> None:
    dataset = record(rltrain.load(run), tmp_path / "set", episodes=9, num_envs=4, max_episode_steps=9)
    terminated, truncated = dataset.ends()
    assert len(dataset.episodes) == 9
    assert (terminated ^ truncated).all()
    assert truncated.any()
    assert (dataset.episodes.length[truncated] == 9).all()
    assert dataset.take("terminated", np.arange(len(dataset))).sum() == terminated.sum()
    policy = rltrain.load(run)
    for number in range(9):
        episode = dataset.episode(number)
        assert np.array_equal(policy.predict(episode["obs"][:-1])[0], episode["action"])
        assert abs(episode["obs"][-1] - episode["obs"][-2]).max() < 1.0  # where the last action led, not a new start
    assert dataset.policies[0]["algo"] == "ppo"
    assert dataset.manifest["environment"]["id"] == CARTPOLE


def test_short_episodes_are_not_favoured(tmp_path: Path) -> None:
    """Episodes last 1 or 40 steps, equally often, whatever else is played beside them."""

    class Coin(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            self.left = 1 if self.np_random.random() < 0.5 else 40
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            self.left -= 1
            return np.zeros(1, np.float32), 1.0, self.left == 0, False, {}

    dataset = record(Coin, tmp_path / "set", episodes=300, num_envs=15)
    assert 0.4 < (dataset.episodes.length == 1).mean() < 0.6


def test_policies_are_mixed_by_their_shares(tmp_path: Path, run: Path) -> None:
    given = [f"{run}=3", "random"]
    dataset = record(CARTPOLE, tmp_path / "set", policies=given, episodes=10, num_envs=4, stochastic=True)
    assert [each["name"] for each in dataset.policies] == [str(run), "random"]
    assert np.bincount(dataset.episodes.policy).tolist() == [8, 2]
    assert not dataset.policies[0]["deterministic"]
    assert shares_of(["a=1", "b=1", "c=1"], 100) == {"a": 34, "b": 33, "c": 33}


def test_a_policy_with_statistics_of_observations_has_a_checksum_too(tmp_path: Path) -> None:
    options: dict[str, Any] = {"agent": {"n_steps": 16, "normalize_obs": True}, "num_envs": 16, "trackers": []}
    options |= {"total_timesteps": 256, "n_eval_episodes": 0, "device": "cpu", "run_dir": tmp_path / "runs"}
    trained = rltrain.train("ppo", CARTPOLE, **options).run_dir
    dataset = record(rltrain.load(trained), tmp_path / "set", episodes=2)
    assert len(dataset.policies[0]["weights"]) == 64


@pytest.mark.parametrize(
    ("policies", "what"),
    [
        (["random=0"], "gives no share"),
        (["random=-1"], "gives no share"),
        (["random=nan"], "gives no share"),
        (["random", "random=2"], "named twice"),
        (["random=1000", "baseline"], "has no episode"),
        (["nothing"], "no policy 'nothing'"),
        (["baseline"], "no baseline"),
        (["keyboard"], "no keyboard"),
    ],
)
def test_wrong_policies_are_named(tmp_path: Path, policies: list[str], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        record(CARTPOLE, tmp_path / "set", policies=policies, episodes=3)
    assert not list(tmp_path.iterdir())


def test_a_policy_of_other_observations_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="has observations of"):
        record("rltrain/Acrobot-v1", tmp_path / "set", policies=[str(run)], episodes=2)


def test_an_interrupted_recording_goes_on_as_if_nothing_had_happened(tmp_path: Path, run: Path) -> None:
    def recorded(name: str) -> Dataset:
        policies = [str(run), "random"]
        return record(CARTPOLE, tmp_path / name, name="x", policies=policies, episodes=20, num_envs=3, stochastic=True)

    whole = recorded("whole")
    plain_add, played = rounds.add_round, 0

    def add_round(*args: Any, **options: Any) -> None:
        nonlocal played
        played += 1
        if played == 6:
            stopping.ask(2)
        plain_add(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "add_round", add_round)
        with pytest.raises(stopping.Stopped):
            recorded("halted")
        stopping.ask(None)
        assert not (tmp_path / "halted").exists()
        again = recorded("halted")
    assert played == 1 + 5 + 3  # of eight rounds, the sixth was played twice
    assert len(again.episodes) == len(whole.episodes) == 20
    for name in whole.columns:
        everything = np.arange(len(whole))
        assert np.array_equal(again.take(name, everything), whole.take(name, everything))
    assert np.array_equal(again.final("obs", np.arange(20)), whole.final("obs", np.arange(20)))


def test_a_killed_recording_goes_on(tmp_path: Path) -> None:
    code = (
        "from rltrain.recording import rounds; from rltrain.recording.recorder import record; import os\n"
        "rounds.SAVE_EVERY = 0.0; plain = rounds.add_round; n = 0\n"
        "def add(*a, **k):\n    global n; n += 1\n    if n == 3: os.kill(os.getpid(), 9)\n    plain(*a, **k)\n"
        f"rounds.add_round = add; record({CARTPOLE!r}, {str(tmp_path / 'set')!r}, episodes=12, num_envs=4)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not (tmp_path / "set").exists()
    dataset = record(CARTPOLE, tmp_path / "set", episodes=12, num_envs=4)
    whole = record(CARTPOLE, tmp_path / "whole", episodes=12, num_envs=4)
    assert len(dataset.parts) > len(whole.parts) == 1
    assert np.array_equal(dataset.take("obs", np.arange(len(whole))), whole.take("obs", np.arange(len(whole))))
    with pytest.raises(DatasetError, match="something at"):
        record(CARTPOLE, tmp_path / "set", episodes=12, num_envs=4)


def test_masks_and_baselines_are_recorded(tmp_path: Path) -> None:
    dataset = record("rltrain/JobShop-v0", tmp_path / "set", policies=["baseline", "random"], episodes=4)
    steps = np.arange(len(dataset))
    masks, actions = dataset.take("obs.action_mask", steps), dataset.take("action", steps)
    assert masks[steps, actions].all()
    assert not masks.all()


def test_an_episode_without_end_is_cut_as_truncated(tmp_path: Path) -> None:
    class Endless(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            return np.zeros(1, np.float32), {}

        def step(self, action: Any) -> Any:
            return np.ones(1, np.float32), 1.0, False, False, {}

    from rltrain.evaluation.limits import Limits

    dataset = record(Endless, tmp_path / "set", episodes=3, limits=Limits(steps=5, seconds=None))
    assert dataset.episodes.length.tolist() == [5, 5, 5]
    assert dataset.ends()[1].all()
    assert (dataset.final("obs", np.arange(3)) == 1).all()


def test_the_verbs(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "set")
    assert main(["record", str(run), "--policy", str(run), "--policy", "random", "--episodes", "6", "--out", out]) == 0
    assert "episodes   6 with" in capsys.readouterr().out
    assert main(["data", "show", out]) == 0
    output = capsys.readouterr().out
    assert "by       random, 3 episodes" in output
    assert (tmp_path / "set" / "overview.png").stat().st_size > 10_000
    assert main(["data", "show", out, "--json", "--out", "none"]) == 0
    for wrong, what in (
        (["record", CARTPOLE], "not said where"),
        (["record", CARTPOLE, "--out", out], "something at"),
        (["record", "rltrain/CartPol-v1", "--out", out + "2"], "CartPol"),
        (["record", CARTPOLE, "--out", out + "2", "--policy", "keyboard"], "no terminal"),
        (["data", "shw", out], "Did you mean 'show'"),
        (["data", "show", str(tmp_path)], "There is no dataset in"),
        (["data", "show", out, "--out", "x.jpg"], "not a PNG"),
    ):
        assert main(wrong) in (2, 4)
        assert what in capsys.readouterr().err


def _answers(handle: int, until: bytes) -> bytes:
    seen, end = b"", time.monotonic() + 60
    while until not in seen and time.monotonic() < end:
        if select.select([handle], [], [], 0.5)[0]:
            seen += os.read(handle, 65536)
    assert until in seen, seen[-500:]
    return seen


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_person_plays_by_keys_in_a_terminal(tmp_path: Path, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    words = ["record", CARTPOLE, "--policy", "keyboard", "--episodes", "2", "--out", str(tmp_path / "set")]
    command = [sys.executable, "-m", "rltrain", *words, "--max-steps", "50", "--seed", "1"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        screen = _answers(ours, b"step 0: keys 0 to 1")
        assert "\u2580".encode() in screen  # the picture
        os.write(ours, b"7")  # not an action
        _answers(ours, b"not now")
        sent = []
        for step in range(1, 60):  # falls over to the right
            key, action = (b"1", 1) if step % 2 else (b"\x1b[C", 1)
            os.write(ours, key)
            sent.append(action)
            if b"episodes   " in _answers(ours, b"keys 0 to 1"):
                break
            if step == 15:
                os.write(ours, b"q")
                break
        _answers(ours, b"checksum")
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    dataset = Dataset.open(tmp_path / "set")
    assert len(dataset.episodes) == 1  # the second was not over
    actions = dataset.take("action", np.arange(len(dataset)))
    assert (actions == 1).all()
    assert dataset.policies == [{"name": "keyboard"}]
