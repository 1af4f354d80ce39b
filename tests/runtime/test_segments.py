"""A large replay is saved in segments: only those that changed, beside training, and each checkpoint is whole alone."""

from __future__ import annotations

import copy
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from test_checkpoint import same

import rltrain
from rltrain.agents.parts.replay import PrioritizedReplay, Replay
from rltrain.callbacks import Callback
from rltrain.distributed.ranks import Ranks
from rltrain.errors import CheckpointError
from rltrain.ring import LEAST, Ring
from rltrain.runs.checkpoint import load_training, save_checkpoint, segments_of
from rltrain.runs.layout import list_checkpoints, prune
from rltrain.runs.segments import SEGMENT
from rltrain.runs.verify import find_fault
from rltrain.runs.writer import CheckpointWriter
from rltrain.vec import VecStep

CPU = torch.device("cpu")
WIDTH = 8_192  # float32 of an observation, so that few rows are a segment
POLICY = {"weight": torch.arange(3.0)}


class Player:
    """Fills a replay with observations of many numbers, and episodes that end by chance."""

    def __init__(self, replay: Replay, seed: int, truncated: float = 0.1, *, tree: bool = False) -> None:
        self.replay, self.chance, self.truncated, self.tree = replay, random.Random(seed), truncated, tree
        self.count = 0
        self.obs = self.fresh()

    def fresh(self) -> Any:
        self.count += 1
        n = self.replay.num_envs
        obs = (torch.arange(n) + n * self.count).float().unsqueeze(1).expand(n, WIDTH)
        return {"wide/one": obs, "odd": self.count % 2 == torch.arange(n) % 2} if self.tree else obs

    def play(self, steps: int) -> None:
        for _ in range(steps):
            n = self.replay.num_envs
            self.replay.begin(self.obs)
            truncated = torch.tensor([self.chance.random() < self.truncated for _ in range(n)])
            terminated = torch.tensor([self.chance.random() < 0.1 for _ in range(n)]) & ~truncated
            final, nothing = self.fresh(), torch.zeros(n)
            step = VecStep(final, torch.rand(n), terminated, truncated, final, nothing, nothing, {})
            self.replay.add(torch.randint(3, (n,)), step)
            self.obs = self.fresh() if truncated.any() or terminated.any() else final


def make(kind: type[Replay] = Replay, num_envs: int = 2, rows: int = 60) -> Replay:
    return kind(rows * num_envs, num_envs, CPU, gamma=0.9, n_steps=3)


def inodes(checkpoint: Path) -> set[int]:
    return {path.stat().st_ino for path in checkpoint.glob(f"{SEGMENT}*")}


@pytest.mark.parametrize("kind", [Replay, PrioritizedReplay])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_what_is_saved_is_what_was_there_however_long_it_takes(
    tmp_path: Path, kind: type[Replay], num_envs: int
) -> None:
    """Saves at random moments, while the ring fills and goes round, and plays on before anything is read."""
    chance = random.Random(num_envs)
    replay = make(kind, num_envs)
    player = Player(replay, num_envs, truncated=chance.choice([0.0, 0.1, 0.6]), tree=num_envs == 3)
    player.play(2)
    for _ in range(14):
        state = {"agent": {"replay": replay.state_dict()}}
        expected = copy.deepcopy(state)
        saved = state["agent"]["replay"]
        ring: Ring = saved["ring"]
        small = {name: saved[name].clone() for name in saved.keys() - {"ring", "rows"}}
        ring.freeze(())
        player.play(chance.choice([1, 2, 5, 20, 70, 200]))
        saved |= small
        path = save_checkpoint(tmp_path, 1, POLICY, state)
        ring.release()
        assert find_fault(path) is None
        assert same(load_training(path), expected)
        shutil.rmtree(path)


def test_looking_at_the_state_meanwhile_does_not_disturb_what_is_being_saved() -> None:
    replay = make()
    player = Player(replay, 7)
    player.play(80)
    ring: Ring = replay.state_dict()["ring"]
    expected = copy.deepcopy(ring)
    ring.freeze(())
    player.play(1)
    replay.state_dict()
    player.play(200)
    for number in range(len(ring.versions)):
        with ring.segment(number) as trees:
            rows = slice(number * ring.size, (number + 1) * ring.size)
            assert same(dict(trees), {name: tensor[rows] for name, tensor in expected.items()})


def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    replay = make(rows=200)
    player = Player(replay, 0, truncated=0.0)
    writer = CheckpointWriter(tmp_path)
    player.play(300)  # the ring is full, and its heads are in its middle
    paths = []
    for step in range(4):
        player.play(5)
        writer.begin(step, POLICY, {"replay": replay.state_dict()})
        paths.append(writer.finish())
        assert find_fault(paths[-1]) is None
    sizes = [len(inodes(path)) for path in paths]
    assert sizes[0] == len(replay.state_dict()["ring"].versions) > 10
    row = 2 * (4 * WIDTH + 4 + 8 + 1)
    most = 5 * row // LEAST + 2  # the rows of five steps, and a segment that they began in or end in
    for before, after in pairwise(paths):
        assert 1 <= len(inodes(after) - inodes(before)) <= most


def test_every_checkpoint_is_whole_by_itself(tmp_path: Path) -> None:
    """Whichever others are removed, and in a copy elsewhere, which shares nothing with the original."""
    replay = make(rows=100)
    player, writer, states = Player(replay, 1), CheckpointWriter(tmp_path / "run"), []
    for step in range(1, 6):
        player.play(30)
        states.append(copy.deepcopy(replay.state_dict()))
        writer.begin(step, POLICY, {"replay": replay.state_dict()})
        writer.finish()
    assert inodes(list_checkpoints(tmp_path / "run")[-1]) & inodes(list_checkpoints(tmp_path / "run")[-2])
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    prune(tmp_path / "run", keep=1, also=2)
    kept = list_checkpoints(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    for path, number in [(tmp_path / "moved" / path.name, int(path.name[-1])) for path in kept]:
        assert find_fault(path) is None
        assert same(load_training(path)["replay"], states[number - 1])
    shutil.rmtree(tmp_path / "moved")
    for path, state in zip(list_checkpoints(tmp_path / "copy"), states, strict=True):
        assert find_fault(path) is None
        assert same(load_training(path)["replay"], state)


@pytest.mark.parametrize("fault", ["no links", "lost", "cut short", "replaced by a link"])
def test_what_cannot_be_linked_is_written_again(tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = make(rows=100)
    player, writer = Player(replay, 2), CheckpointWriter(tmp_path)
    player.play(110)
    writer.begin(1, POLICY, {"replay": replay.state_dict()})
    first = writer.finish()
    if fault == "no links":

        def refuse(*_: object, **__: object) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    for path in first.glob(f"{SEGMENT}*"):
        if fault == "lost":
            path.unlink()
        elif fault == "cut short":
            os.truncate(path, 100)
        elif fault == "replaced by a link":
            path.rename(tmp_path / path.name)
            path.symlink_to(tmp_path / path.name)
    expected = copy.deepcopy(replay.state_dict())
    writer.begin(2, POLICY, {"replay": replay.state_dict()})
    player.play(10)
    second = writer.finish()
    assert not inodes(second) & inodes(first)
    assert find_fault(second) is None
    assert same(load_training(second)["replay"], expected)


def test_a_damaged_segment_is_named(tmp_path: Path) -> None:
    replay = make(rows=100)
    Player(replay, 3).play(50)
    path = save_checkpoint(tmp_path, 1, POLICY, {"replay": replay.state_dict()})
    segment = sorted(path.glob(f"{SEGMENT}*"))[0]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    assert find_fault(path) == f"{segment.name} was changed: its checksum differs"
    segment.unlink()
    assert find_fault(path) == f"{segment.name} is missing"
    with pytest.raises(CheckpointError, match=segment.name):
        load_training(path)


def test_a_replay_that_was_loaded_goes_on_sharing(tmp_path: Path) -> None:
    """In another process, too: what the last session wrote is linked by the next."""
    replay = make(rows=100)
    player = Player(replay, 4, truncated=0.0)
    player.play(130)
    path = save_checkpoint(tmp_path, 1, POLICY, {"replay": replay.state_dict()})
    later = make(rows=100)
    later.load_state_dict(load_training(path)["replay"])
    player.replay = later
    player.play(3)
    second = save_checkpoint(tmp_path, 2, POLICY, {"replay": later.state_dict()}, segments=segments_of(path))
    assert find_fault(second) is None
    assert 1 <= len(inodes(second) - inodes(path)) <= 3
    assert len(inodes(second)) > 5
    assert same(load_training(second)["replay"], copy.deepcopy(later.state_dict()))
    assert same(load_training(path)["replay"], copy.deepcopy(replay.state_dict()))  # not changed through the links


def test_a_replay_of_before_segments_is_loaded(tmp_path: Path) -> None:
    replay = make(rows=50)
    Player(replay, 5).play(70)
    plain = copy.deepcopy(replay.state_dict())  # as older checkpoints hold it
    assert type(plain["ring"]) is dict
    path = save_checkpoint(tmp_path, 1, POLICY, {"replay": plain})
    assert not inodes(path)
    later = make(rows=50)
    later.load_state_dict(load_training(path)["replay"])
    assert same(copy.deepcopy(later.state_dict()), plain)


class Blocker(Callback):
    """After the first checkpoint there is a file where the next is to be written."""

    def on_checkpoint(self, trainer: Any, path: Path) -> None:
        shutil.rmtree(path.parent)
        path.parent.write_text("in the way")


SMALL: dict[str, Any] = {
    "total_timesteps": 2_000,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 400,
    "n_eval_episodes": 0,
    "agent": {"buffer_size": 800, "learning_starts": 100},
}


def test_a_failure_beside_training_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        rltrain.train("dqn", "rltrain/CartPole-v1", progress=False, run_dir=tmp_path, callbacks=[Blocker()], **SMALL)
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint"]


class Watcher(Callback):
    """Notes the checkpoints that it is shown."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []

    def on_checkpoint(self, trainer: Any, path: Path) -> None:
        self.seen.append((path.name, find_fault(path)))


def test_callbacks_see_every_checkpoint_once_and_whole(tmp_path: Path) -> None:
    watcher = Watcher()
    result = rltrain.train(
        "dqn", "rltrain/CartPole-v1", progress=False, run_dir=tmp_path, callbacks=[watcher], eval_freq=800, **SMALL
    )
    kept = [path.name for path in list_checkpoints(result.run_dir / "checkpoints")]
    names = [name for name, _ in watcher.seen]
    assert len(names) == len(set(names)) >= 5
    assert names[-1] == kept[-1]
    assert {fault for _, fault in watcher.seen} == {None}
    assert not list((result.run_dir / "checkpoints").glob(".writing*"))


class Thread(Ranks):
    """One of two ranks that are threads of this process."""

    world_size = local_world_size = 2

    def __init__(self, rank: int, barrier: threading.Barrier, said: dict[int, Any]) -> None:
        self.rank, self.barrier, self.said = rank, barrier, said

    def gather(self, value: Any) -> list[Any]:
        self.said[self.rank] = value
        self.barrier.wait(20)
        values = [self.said[0], self.said[1]]
        self.barrier.wait(20)
        return values

    def any(self, *flags: bool) -> tuple[bool, ...]:
        return tuple(map(any, zip(*self.gather(flags), strict=True)))


class Unreadable(Ring):
    """Memory that turned out to be bad."""

    @contextmanager
    def segment(self, number: int) -> Iterator[dict[str, Any]]:
        raise OSError(5, "Input/output error")
        yield {}


@pytest.mark.parametrize("bad", [None, 0, 1])
def test_two_ranks_write_beside_training_together_or_not_at_all(tmp_path: Path, bad: int | None) -> None:
    barrier, said = threading.Barrier(2), {}  # type: ignore[var-annotated]
    outcomes: dict[int, Any] = {}

    def rank(number: int) -> None:
        writer = CheckpointWriter(tmp_path, Thread(number, barrier, said))
        replay = make()
        Player(replay, number).play(20)
        state = replay.state_dict()
        expected = copy.deepcopy(state)
        if number == bad:
            state["ring"] = Unreadable(dict(state["ring"]), state["ring"].size, state["ring"].versions)
        writer.begin(1, POLICY, {"replay": state})
        try:
            while (path := writer.poll()) is None:  # between updates, of which the ranks take equally many
                time.sleep(0.001)
            outcomes[number] = same(load_training(path, number)["replay"], expected)
        except CheckpointError as error:
            outcomes[number] = error.cause
            assert not writer.busy

    threads = [threading.Thread(target=rank, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if bad is None:
        assert outcomes == {0: True, 1: True}
    else:
        assert all("Input/output error" in outcomes[number] for number in range(2)), outcomes
        assert not list_checkpoints(tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint"]
