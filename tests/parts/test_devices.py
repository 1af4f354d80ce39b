"""Devices by name, and types that some of them lack."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from float64 import Float64

from rltrain.devices import answers_late, pick_device, statistics_dtype
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.normalize import RewardNormalizer, RunningMoments
from rltrain.registry import env_specs
from rltrain.spaces import random_actions

IDS = [env_id for env_id in env_specs() if env_id.startswith("rltrain/")]


@pytest.fixture
def a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose one accelerator is an mps."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("mps"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)


@pytest.mark.usefixtures("a_mac")
def test_an_accelerator_is_taken_by_its_name_and_said_to_be_untested() -> None:
    with pytest.warns(UserWarning, match=r"untested on 'mps' devices.*"):
        assert pick_device("mps") == torch.device("mps")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")  # never by itself


@pytest.mark.usefixtures("a_mac")
@pytest.mark.parametrize("name", ["mps:1", "xpu", "cuda", "cuda:3", "meta"])
def test_an_accelerator_that_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is not there: torch sees [01] {name.partition(':')[0].upper()}"):
        pick_device(name)


def test_cuda_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pick_device("cuda:1") == torch.device("cuda:1")
        assert pick_device("auto") == torch.device("cuda")
    with pytest.raises(ConfigError, match="torch sees 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu cpu"])
def test_no_such_device(name: str) -> None:
    with pytest.raises(ConfigError, match=f"There is no device '{name}'"):
        pick_device(name)


def test_only_the_host_answers_at_once() -> None:
    late = {name: answers_late(torch.device(name)) for name in ("cpu", "cuda", "mps", "xpu")}
    assert late == {"cpu": False, "cuda": True, "mps": True, "xpu": True}


def test_statistics_are_float64_where_there_is_such_a_type() -> None:
    types = {name: statistics_dtype(name) for name in ("cpu", "cuda:1", "xpu", "mps", "mps:0")}
    assert [name for name, dtype in types.items() if dtype == torch.float32] == ["mps", "mps:0"]
    assert set(types.values()) == {torch.float32, torch.float64}


@pytest.fixture
def meta_like_mps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Float64]:
    """The meta device without float64, and who uses it all the same."""
    monkeypatch.setattr("rltrain.devices.WITHOUT_FLOAT64", {"meta"})
    with Float64("meta") as mode:
        yield mode


@pytest.mark.parametrize("env_id", IDS)
def test_no_environment_needs_float64(env_id: str, meta_like_mps: Float64) -> None:
    vec: Any = make_vec(env_id, 4, device="meta")
    vec.reset(0)
    for _ in range(2):
        vec.step(random_actions(vec.single_action_space, 4, vec.device, None))
    assert meta_like_mps.seen == []


def test_the_mode_sees_float64() -> None:
    """The control: where the device is said to have it, it is used."""
    with Float64("meta") as mode:
        make_vec("rltrain/Blackjack-v1", 4, device="meta")
        RewardNormalizer(4, 0.99, device="meta")(torch.zeros(3, 4, device="meta"), torch.zeros(3, 4, device="meta") > 0)
    assert len(mode.seen) > 5


def test_blackjack_in_float32_keeps_to_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chance next to 1 must not round up to the first end of the next card."""
    monkeypatch.setattr("rltrain.devices.WITHOUT_FLOAT64", {"cpu"})
    vec: Any = make_vec("rltrain/Blackjack-v1", 10)
    vec.reset(0)
    state = vec.env.reset(10, None)
    state.showing = torch.arange(1, 11)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((10,), 1 - 2**-24))
    after, _, _ = vec.env.step(state, torch.zeros(10, dtype=torch.int64), None)
    assert after.dealer.tolist() == [0] * 10  # the last end of every card is bust


def test_moments_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.randn(20, 50, 3, generator=torch.Generator().manual_seed(0)) * 3 + 1
    exact = RunningMoments((3,))
    monkeypatch.setattr("rltrain.devices.WITHOUT_FLOAT64", {"cpu"})
    rough = RunningMoments((3,))
    for batch in samples:
        exact.update(batch)
        rough.update(batch)
    assert (exact.mean.dtype, rough.mean.dtype, rough.var.dtype) == (torch.float64, torch.float32, torch.float32)
    torch.testing.assert_close(rough.mean.double(), exact.mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rough.var.double(), exact.var, rtol=1e-5, atol=1e-6)
