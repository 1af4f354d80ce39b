"""Ranks on one machine exchange through shared memory what they would through sockets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rltrain.distributed import shared_memory
from rltrain.distributed.shared_memory import CAPACITY, SharedMemory

SIZE = 3


@pytest.fixture
def path() -> Iterator[Path]:
    made = SharedMemory.make(SIZE)
    if made is None:
        pytest.skip("no memory that processes on this kind of machine may share so")
    yield made
    made.unlink()


def test_everyone_gets_what_all_have_written(path: Path) -> None:
    ranks = [SharedMemory(path, index, SIZE) for index in range(SIZE)]

    def talk(index: int) -> list[torch.Tensor]:
        """Now long, now short, of several types; none waits for another beyond what it is told."""
        generator = torch.Generator().manual_seed(index)
        heard = []
        for turn in range(60):
            shape, dtype = ((), (7,), (300, 4))[turn % 3], (torch.float32, torch.float64, torch.int32)[turn // 3 % 3]
            told = torch.randint(1000, shape, generator=generator).to(dtype)
            heard.append(ranks[index].gather(told).clone())
            assert torch.equal(heard[-1][index], told)
        return heard

    with ThreadPoolExecutor(SIZE) as pool:
        first, *others = pool.map(talk, range(SIZE))
    for other in others:
        for mine, theirs in zip(first, other, strict=True):
            assert torch.equal(mine, theirs)


def test_what_fits() -> None:
    assert SharedMemory.fits(torch.zeros(CAPACITY // 4))
    assert not SharedMemory.fits(torch.zeros(CAPACITY // 4 + 1))
    assert not SharedMemory.fits(torch.zeros(2, device="meta"))


@pytest.mark.parametrize("how", ["left", "died"])
def test_nobody_waits_for_one_that_has_gone(how: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "PATIENCE", 0.0)
    monkeypatch.setattr(shared_memory, "LOOKS", 1)
    here, gone, _ = (SharedMemory(path, index, SIZE) for index in range(SIZE))
    if how == "left":
        gone.leave()
    else:
        gone._own[shared_memory.PID] = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    with pytest.raises(RuntimeError, match="has gone"):
        here.gather(torch.zeros(2))


def test_one_that_left_after_its_turn_is_heard(path: Path) -> None:
    ranks = [SharedMemory(path, index, SIZE) for index in range(SIZE)]
    with ThreadPoolExecutor(SIZE) as pool:
        list(pool.map(lambda rank: rank.gather(torch.ones(2)), ranks))
        others = [pool.submit(rank.gather, torch.ones(2)) for rank in ranks[1:]]
        first = ranks[0].gather(torch.ones(2))
        ranks[0].leave()
        assert all(torch.equal(other.result(), first) for other in others)


def test_no_memory_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert SharedMemory.make(SIZE) is None
    monkeypatch.setattr(shared_memory.platform, "machine", lambda: "aarch64")
    assert SharedMemory.make(SIZE) is None
