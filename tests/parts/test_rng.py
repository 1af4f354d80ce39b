"""Random streams: derived, independent, restored."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rltrain.rng import (
    derive_seed,
    generator_state,
    global_kept,
    global_state,
    make_generator,
    seed_global,
    seeded,
    set_generator_state,
    set_global_state,
)


def test_derived_seeds_are_fixed() -> None:
    """They decide what a seed means: a change here changes every run."""
    # sha256(b"0/env")[:8] and sha256(b"7/env/3")[:8], big-endian, halved
    assert derive_seed(0, "env") == 6645031042606216130
    assert derive_seed(7, "env", 3) == 3925246226262837925


def test_derived_seeds_differ() -> None:
    streams = [(), ("env",), ("agent",), ("weights",), ("env", 0), ("env", 1), ("env", 10), ("agent", 0)]
    seeds = [derive_seed(seed, *stream) for seed in range(200) for stream in streams]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert (abs(bits.mean(0) - 0.5) < 4 * 0.5 / len(seeds) ** 0.5).all()


def test_derived_streams_are_not_correlated() -> None:
    draws = [torch.rand(20_000, generator=make_generator("cpu", derive_seed(seed, "x"))) for seed in range(6)]
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(6)
    assert correlation.abs().max() < 4 / 20_000**0.5


def test_seeded_blocks_leave_no_trace() -> None:
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.rand(4)
    with seeded(3):
        assert torch.equal(torch.rand(4), first)
    with pytest.raises(KeyError), seeded(4):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def draw() -> list[Any]:
    return [torch.rand(3).tolist(), np.random.rand(2).tolist(), np.random.randn(), random.random(), random.gauss(0, 1)]


def test_global_generators_are_restored() -> None:
    kept = global_state()
    try:
        np.random.randn()  # numpy and Python keep every second Gaussian for later
        random.gauss(0, 1)
        saved = global_state()
        first = draw()
        assert draw() != first
        set_global_state(saved)
        assert draw() == first
    finally:
        set_global_state(kept)


def test_generators_are_restored() -> None:
    generator = make_generator("cpu", 5)
    torch.rand(7, generator=generator)
    state = generator_state(generator)
    first = torch.randn(9, generator=generator)
    other = make_generator("cpu", 6)
    set_generator_state(other, state)
    assert torch.equal(torch.randn(9, generator=other), first)


def test_meta_has_no_generators() -> None:
    assert make_generator("meta", 0) is None
    state = generator_state(None)
    assert state.numel() == 0
    set_generator_state(None, state)
    generator = make_generator("cpu", 0)
    before = generator.get_state()
    set_generator_state(generator, state)  # nothing to put back
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("kind", "count"), [("cuda", 2), ("xpu", 1), ("mps", 1)])
def test_generators_of_accelerators_are_restored(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own modules have it: by number, but for mps, which has one generator."""
    states = [torch.tensor([i], dtype=torch.uint8) for i in range(count)]

    def get_rng_state(index: int = 0) -> torch.Tensor:
        return states[index].clone()

    def set_rng_state(state: torch.Tensor, index: int = 0) -> None:
        states[index] = state.clone()

    functions = (lambda: get_rng_state(), lambda state: set_rng_state(state))
    get, put = functions if kind == "mps" else (get_rng_state, set_rng_state)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(kind))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)
    monkeypatch.setattr(
        torch, "get_device_module", lambda device: SimpleNamespace(get_rng_state=get, set_rng_state=put)
    )
    saved = global_state()
    assert [int(saved[kind][str(i)]) for i in range(count)] == list(range(count))
    states[:] = [torch.tensor([9], dtype=torch.uint8)] * count
    set_global_state(saved)
    assert [int(state) for state in states] == list(range(count))
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert kind not in global_state()
    set_global_state(saved)  # on a machine without it


with global_kept():
    seed_global(9)
    SEEDED_WITH_9 = global_state()


@pytest.mark.parametrize(
    "disturb", [lambda: seed_global(5), lambda: set_global_state(SEEDED_WITH_9)], ids=["seeds", "restores"]
)
def test_another_thread_waits_while_a_block_is_seeded(disturb: Callable[[], object]) -> None:
    with seeded(3):
        expected = torch.cat((torch.rand(4), torch.rand(4)))
    other = threading.Thread(target=disturb)
    with seeded(3):
        first = torch.rand(4)
        other.start()
        other.join(0.05)
        drawn = torch.cat((first, torch.rand(4)))
    other.join()
    assert torch.equal(drawn, expected)
