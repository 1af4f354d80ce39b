"""A checkpoint exists completely or not at all, and a damaged one is never used."""

from __future__ import annotations

import json
import os
import pickletools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rltrain.errors import CheckpointError
from rltrain.runs import checkpoint as module
from rltrain.runs.checkpoint import load_policy, load_training, save_checkpoint
from rltrain.runs.layout import (
    MANIFEST,
    POLICY,
    STATE,
    TRAINING,
    list_checkpoints,
    prune,
    remove_unfinished,
    set_aside,
    step_of,
)
from rltrain.runs.verify import find_fault, newest_good
from rltrain.storage.files import write_atomically

POLICY_STATE = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.zeros(3, dtype=torch.bfloat16)}


def training_state() -> dict[str, Any]:
    """Every type, shape and depth that agents, environments and generators save."""
    return {
        "trainer": {"global_step": 7, "best": float("-inf"), "none": None, "yes": True, "rollout/mean": 0.1},
        "tensors": {
            "float64": torch.tensor(1 / 3, dtype=torch.float64),
            "empty": torch.empty(0, dtype=torch.uint8),
            "bool": torch.tensor([True, False]),
            "int8": torch.tensor([-128, 127], dtype=torch.int8),
            "int64": torch.tensor([2**62 + 1]),
            "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
            "strided": torch.arange(6.0).view(2, 3).T,
            "shared": POLICY_STATE["layer.weight"][1],
        },
        "nothing": {},
        "deep": {"er": {"still": {"rng": torch.get_rng_state(), "words": ["a", 1, 0.1 + 0.2]}}},
        "obs": {"walker/joints~pos": torch.ones(2), "walker": {"joints~pos": torch.zeros(3)}},
    }


def save(folder: Path, step: int = 128) -> Path:
    return save_checkpoint(folder, step, POLICY_STATE, training_state())


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit, in structure, type and shape."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, Tensor):
        equal = isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return equal and a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes()
    return type(a) is type(b) and a == b


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert path == tmp_path / "step_000000000128"
    assert find_fault(path) is None
    assert same(load_training(path), training_state())
    policy = load_policy(path)
    assert policy.keys() == POLICY_STATE.keys()
    assert all(policy[name].dtype == t.dtype and torch.equal(policy[name], t) for name, t in POLICY_STATE.items())


def test_it_holds_four_files_and_no_pickle(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert sorted(p.name for p in path.iterdir()) == sorted([POLICY, TRAINING, STATE, MANIFEST])
    for file in path.iterdir():
        with pytest.raises(ValueError, match=r"opcode|pickle|exhausted|expected|invalid"), file.open("rb") as data:
            list(pickletools.genops(data))


@pytest.mark.parametrize("name", [POLICY, TRAINING, STATE])
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_found_in_its_file(tmp_path: Path, name: str, where: float) -> None:
    path = save(tmp_path)
    data = bytearray((path / name).read_bytes())
    data[round(where * (len(data) - 1))] ^= 4
    (path / name).write_bytes(data)
    fault = find_fault(path)
    assert fault is not None
    assert name in fault


@pytest.mark.parametrize("name", [POLICY, TRAINING, STATE])
def test_a_file_cut_short_or_lost_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path)
    os.truncate(path / name, 10)
    assert f"{name} has 10 bytes" in (find_fault(path) or "")
    (path / name).unlink()
    assert find_fault(path) == f"{name} is missing"


def test_without_its_manifest_it_is_no_checkpoint(tmp_path: Path) -> None:
    path = save(tmp_path)
    manifest = json.loads((path / MANIFEST).read_text())
    for text in ("", "{}", "[]", "null", "{", '{"files": {"policy.safetensors": 3}}', "\xff"):
        (path / MANIFEST).write_text(text, encoding="latin-1")
        assert find_fault(path) == f"{MANIFEST} cannot be read", text
    (path / MANIFEST).write_text(json.dumps({**manifest, "format": 4}))
    assert "format" in (find_fault(path) or "")
    del manifest["files"][TRAINING]
    (path / MANIFEST).write_text(json.dumps(manifest))
    assert find_fault(path) == f"{MANIFEST} does not list {TRAINING}"
    (path / MANIFEST).unlink()
    assert find_fault(path) == f"{MANIFEST} is missing"


def test_reading_a_damaged_one_names_the_file(tmp_path: Path) -> None:
    path = save(tmp_path)
    for name, read in ((POLICY, load_policy), (TRAINING, load_training), (STATE, load_training)):
        (path / name).write_bytes(b"{")
        with pytest.raises(CheckpointError, match=name):
            read(path)
        (path / name).unlink()
        with pytest.raises(CheckpointError, match=name):
            read(path)


def test_the_newest_whole_one_is_found_behind_damaged_ones(tmp_path: Path) -> None:
    for step in (5, 10_000_000_000_000, 20):
        save(tmp_path, step)
    (tmp_path / "step_junk").mkdir()
    (tmp_path / "step_000000000099").write_text("a file")
    newest, middle, oldest = reversed(list_checkpoints(tmp_path))
    assert [step_of(path) for path in (oldest, middle, newest)] == [5, 20, 10_000_000_000_000]
    assert list(newest_good(tmp_path)) == [(newest, None)]
    (newest / STATE).unlink()
    (middle / MANIFEST).unlink()
    faults = [f"{STATE} is missing", f"{MANIFEST} is missing", None]
    assert list(newest_good(tmp_path)) == list(zip((newest, middle, oldest), faults, strict=True))


@pytest.mark.parametrize("point", ["write_new", "sync_directory"])
@pytest.mark.parametrize("call", [1, 2])
def test_a_save_that_breaks_off_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, call: int
) -> None:
    """Whatever the point: in a file, between files, before and after the rename."""
    save(tmp_path, 1)
    real, calls = getattr(module, point), []

    def die(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(module, point, die)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    monkeypatch.undo()
    renamed = (point, call) == ("sync_directory", 2)  # the last thing of all, when the checkpoint is there
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == ([1, 2] if renamed else [1])
    assert all(find_fault(path) is None for path in list_checkpoints(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == list_checkpoints(tmp_path)


def test_a_half_written_file_is_written_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / ".writing-128"
    unfinished.mkdir()
    (unfinished / "junk").write_text("left by a killed process")
    path = save(tmp_path)
    assert sorted(p.name for p in path.iterdir()) == sorted([POLICY, TRAINING, STATE, MANIFEST])
    assert not unfinished.exists()


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_new", full)
    with pytest.raises(CheckpointError, match=r"step_000000000128.*No space left on device"):
        save(tmp_path)
    assert not list_checkpoints(tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    first = save(tmp_path)
    before = {file.name: file.read_bytes() for file in first.iterdir()}
    second = save_checkpoint(tmp_path, 128, {"other": torch.ones(1)}, {})
    assert load_policy(second).keys() == {"other"}
    aside = tmp_path / "superseded_1" / second.name
    assert {file.name: file.read_bytes() for file in aside.iterdir()} == before


def test_setting_aside_twice_makes_two_folders(tmp_path: Path) -> None:
    set_aside([])
    assert not list(tmp_path.iterdir())
    set_aside([save(tmp_path, 1), save(tmp_path, 2)])
    set_aside([save(tmp_path, 1)])
    set_aside([save(tmp_path, 1)])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.glob("superseded_*/step_*")) == [
        "superseded_1/step_000000000001",
        "superseded_1/step_000000000002",
        "superseded_2/step_000000000001",
        "superseded_3/step_000000000001",
    ]
    (tmp_path / "superseded_1").rename(tmp_path / "mine")  # a user clearing up must not cause a collision
    set_aside([save(tmp_path, 1)])
    assert find_fault(tmp_path / "superseded_4" / "step_000000000001") is None
    assert list_checkpoints(tmp_path) == []


def test_the_last_few_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step)
    prune(tmp_path, keep=2, also=3)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [3, 6, 7]
    prune(tmp_path, keep=2, also=None)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [6, 7]
    prune(tmp_path, keep=5, also=6)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [6, 7]


def test_a_small_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "best.json"
    write_atomically(path, "old")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["best.json"]
