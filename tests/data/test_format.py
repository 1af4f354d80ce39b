"""What is written is read back, in parts of any size; what is damaged, half written or hostile is refused in a line."""

from __future__ import annotations

import itertools
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from made import ACTIONS, OBS, columns_of, finals_of, make

from rltrain.data.columns import codes_to_text, flatten, leaves_of, text_to_codes, unflatten
from rltrain.data.copying import copy_episodes
from rltrain.data.dataset import Dataset
from rltrain.data.layout import CARD, MANIFEST
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError
from rltrain.storage.records import sealed, unsealed


@pytest.mark.parametrize("part_bytes", [1, 60, 200, 10**9])
def test_parts_of_any_size_hold_the_same(tmp_path: Path, part_bytes: int) -> None:
    lengths = [3, 1, 7, 2, 5]
    columns, finals = columns_of(lengths), finals_of(5)
    starts = np.cumsum([0, *lengths])
    with DatasetWriter(tmp_path / "set", OBS, ACTIONS, part_bytes=part_bytes) as writer:
        for block in ([0, 1], [2], [3, 4]):  # written in blocks of episodes
            first, last = starts[block[0]], starts[block[-1] + 1]
            writer.add(
                {name: column[first:last] for name, column in columns.items()},
                [lengths[i] for i in block],
                {"obs": finals["obs"][block]},
                seeds=np.array(block),
            )
    dataset = Dataset.open(tmp_path / "set", verify=True)
    assert (len(dataset.parts) > 5) == (part_bytes < 100)
    assert len(dataset) == 18
    assert dataset.episodes.length.tolist() == lengths
    assert dataset.episodes.seed.tolist() == [0, 1, 2, 3, 4]
    everywhere = np.random.default_rng(0).permutation(18)
    following = np.concatenate(
        [
            np.concatenate([columns["obs"][a + 1 : b], finals["obs"][i : i + 1]])
            for i, (a, b) in enumerate(itertools.pairwise(starts))
        ]
    )
    for name, column in columns.items():
        assert np.array_equal(dataset.take(name, everywhere), column[everywhere])
        assert np.array_equal(dataset.read(name, 2, 15), column[2:15])
    assert np.array_equal(dataset.after("obs", everywhere), following[everywhere])
    episode = dataset.episode(2)
    assert np.array_equal(episode["obs"], np.concatenate([columns["obs"][4:11], finals["obs"][2:3]]))
    assert np.array_equal(episode["action"], columns["action"][4:11])
    rewards = np.add.reduceat(columns["reward"].astype(np.float64), starts[:-1])
    assert np.array_equal(dataset.episodes.returns, rewards)
    assert list(dataset.ranges(1)) == [(i, i + 1) for i in range(5)]
    assert list(dataset.ranges()) == [(0, 5)]


def test_the_same_data_have_the_same_checksum_and_other_data_another(tmp_path: Path) -> None:
    checksums = [
        make(tmp_path / "a" / name, name="x", seed=seed).checksum
        for name, seed in (("1", 0), ("2", 0), ("3", 1))
        if (tmp_path / "a").mkdir(exist_ok=True) is None
    ]
    assert checksums[0] == checksums[1] != checksums[2]


def test_episodes_are_copied_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    source = make(
        tmp_path / "set",
        groups={"user": ["ann", "bob", "ann", "eve"]},
        seeds=np.arange(4),
        has_final=np.array([True, False, True, True]),
    )
    with DatasetWriter(tmp_path / "some", OBS, ACTIONS, parents=[source]) as writer:
        copy_episodes(source, writer, np.array([False, True, False, True]))
    some = Dataset.open(tmp_path / "some")
    assert some.ancestors == [source.checksum]
    assert some.episodes.seed.tolist() == [1, 3]
    assert some.episodes.has_final.tolist() == [False, True]
    assert [some.groups["user"][code] for code in some.episodes.groups["user"]] == ["bob", "eve"]
    for mine, other in ((0, 1), (1, 3)):
        for name, column in source.episode(other).items():
            assert np.array_equal(some.episode(mine)[name], column)


def test_a_writer_that_fails_leaves_nothing_and_one_that_is_killed_goes_on(tmp_path: Path) -> None:
    def fail(saved: int, **options: Any) -> None:
        with DatasetWriter(tmp_path / "set", OBS, ACTIONS, **options) as writer:
            for seed in (1, 2):
                writer.add(columns_of([1 + seed], seed), [1 + seed], finals_of(1, seed))
                if seed <= saved:
                    writer.save()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(0)
    assert not list(tmp_path.iterdir())
    how = {"seed": 1}
    with pytest.raises(ZeroDivisionError):
        fail(1, resume=how)
    assert not (tmp_path / "set").exists()
    with DatasetWriter(tmp_path / "set", OBS, ACTIONS, resume=how) as writer:
        assert writer.written == 1
        writer.add(columns_of([3], 2), [3], finals_of(1, 2))
    dataset = Dataset.open(tmp_path / "set", verify=True)
    assert np.array_equal(dataset.episode(0)["obs"][:2], columns_of([2], 1)["obs"])
    assert np.array_equal(dataset.episode(1)["obs"][:3], columns_of([3], 2)["obs"])
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(DatasetError, match="something at"):
        make(tmp_path / "set")


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    columns = columns_of([2, 2])
    for changes, what in (
        ({"obs": columns["obs"][:3]}, "'obs' is float32"),
        ({"obs": columns["obs"].astype(object)}, "'obs' is of the type object"),
        ({"reward": columns["reward"][:, None]}, "'reward' has no single"),
        ({"terminated": columns["terminated"].astype(int)}, "not true or false"),
        ({"action.x": columns["action"]}, "'action.x' is of neither space"),
    ):
        with pytest.raises(DatasetError, match=what), DatasetWriter(tmp_path / "set", OBS, ACTIONS) as writer:
            writer.add({**columns, **changes}, [2, 2], finals_of(2))
    with pytest.raises(DatasetError, match="no steps"):
        make(tmp_path / "set", [2, 0, 2])
    with pytest.raises(DatasetError, match="no episode"), DatasetWriter(tmp_path / "set", OBS, ACTIONS):
        pass
    with pytest.raises(DatasetError, match="no folder"):
        make(tmp_path / "not" / "there")


def _change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _hostile_header(size: int, shape: list[int], offsets: list[int]) -> bytes:
    header = json.dumps({"obs": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    return struct.pack("<Q", len(header) if size < 0 else size) + header + bytes(100)


def _manifest(folder: Path, **changes: object) -> None:
    data, _ = unsealed((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(sealed({**data, **changes}))


def _as_link(path: Path) -> None:
    moved = path.with_name("elsewhere")
    path.rename(moved)
    path.symlink_to(moved)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda d: (d / MANIFEST).unlink(), "There is no dataset"),
        (lambda d: (d / "data_00000.safetensors").unlink(), "is missing"),
        (lambda d: _change_byte(d / "data_00000.safetensors"), "checksum differs"),
        (lambda d: _change_byte(d / "episodes.safetensors"), "checksum differs"),
        (lambda d: (d / MANIFEST).write_text((d / MANIFEST).read_text().replace("unknown", "someone")), "was changed"),
        (lambda d: (d / MANIFEST).write_text("{" * 9999), "not JSON|nested"),
        (lambda d: (d / MANIFEST).write_bytes(b"\xff\xfe"), "not text"),
        (lambda d: _manifest(d, format=99), "format '99'"),
        (lambda d: _manifest(d, writing=True), "still being written"),
        (lambda d: _manifest(d, columns={}), "does not describe"),
        (lambda d: _manifest(d, columns={"obs": {"dtype": "O", "shape": [], "state": True}}), "does not describe"),
        (lambda d: _manifest(d, policies=[]), "does not describe"),
        (
            lambda d: _manifest(
                d, observation_space={"type": "Box", "shape": [10**12], "low": 0, "high": 1, "dtype": "float32"}
            ),
            "does not describe",
        ),
        (lambda d: _manifest(d, observation_space={"type": "os.system"}), "does not describe"),
        (lambda d: _as_link(d / "data_00000.safetensors"), "symbolic link"),
        (lambda d: _as_link(d / MANIFEST), "symbolic link"),
        (lambda d: _as_link(d), "symbolic link"),
        (lambda d: (d / "data_00000.safetensors").write_bytes(b"abc"), "cut off|bytes instead"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], what: str) -> None:
    make(tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(DatasetError, match=what) as error:
        Dataset.open(tmp_path / "set", verify=True)
    assert "\n" not in error.value.cause
    assert error.value.fix


@pytest.mark.parametrize(
    "content",
    [
        _hostile_header(2**62, [14, 3], [0, 168]),
        _hostile_header(-1, [2**40, 2**40], [0, 168]),
        _hostile_header(-1, [-1, 3], [0, 168]),
        _hostile_header(-1, [14, 3], [-8, 160]),
        _hostile_header(-1, [14, 3], [0, 2**50]),
        _hostile_header(-1, [14, True], [0, 168]),
        _hostile_header(-1, [2**50, 0], [0, 0]),
        b"\x08" + bytes(7) + b"{" * 8,
    ],
)
def test_a_hostile_file_is_refused_before_it_takes_memory(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "set")
    (tmp_path / "set" / "data_00000.safetensors").write_bytes(content)
    dataset = Dataset.open(tmp_path / "set")
    with pytest.raises(DatasetError):
        dataset.take("obs", np.arange(3))


def test_a_name_in_the_manifest_cannot_leave_the_folder(tmp_path: Path) -> None:
    make(tmp_path / "set")
    make(tmp_path / "other")
    data, _ = unsealed((tmp_path / "set" / MANIFEST).read_text())
    _manifest(tmp_path / "set", table={**data["table"], "file": "../other/episodes.safetensors"})
    with pytest.raises(DatasetError, match="no file of a dataset"):
        Dataset.open(tmp_path / "set")


def test_a_card_may_be_edited(tmp_path: Path) -> None:
    dataset = make(tmp_path / "set")
    (dataset.path / CARD).write_text("license: cc0-1.0\n")
    assert Dataset.open(tmp_path / "set", verify=True).checksum == dataset.checksum


def test_nested_values_become_columns_and_come_back() -> None:
    space = spaces.Dict(
        {
            "a": spaces.Tuple([spaces.Discrete(3, start=2), spaces.Text(5)]),
            "b": spaces.Dict({"c": spaces.MultiBinary([2, 2]), "d.e": spaces.Box(0, 1, (2,), np.float64)}),
        }
    )
    rng = np.random.default_rng(0)
    values = {
        "a": (np.array([2, 4]), ["", "añ€"]),
        "b": {"c": rng.integers(2, size=(2, 2, 2)).astype(np.int8), "d.e": rng.random((2, 2))},
    }
    columns = flatten(space, values, "obs")
    assert list(columns) == ["obs.a.0", "obs.a.1", "obs.b.c", "obs.b.d.e"]
    again = unflatten(space, columns, "obs")
    assert again["a"][1] == ["", "añ€"]
    assert np.array_equal(again["b"]["d.e"], values["b"]["d.e"])
    assert codes_to_text(text_to_codes(["x", "yz"], 2)) == ["x", "yz"]
    with pytest.raises(DatasetError, match="no column for a Graph"):
        leaves_of(spaces.Graph(spaces.Discrete(2), None), "obs")
    with pytest.raises(DatasetError, match=r"named 'obs\.a\.b'"):
        leaves_of(spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})}), "obs")


def test_more_is_read_than_a_process_may_open_files(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "set", OBS, ACTIONS, part_bytes=1) as writer:
        for seed in range(300):
            writer.add(columns_of([1], seed), [1], finals_of(1, seed))
    dataset = Dataset.open(tmp_path / "set")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert dataset.take("obs", np.arange(300)).shape == (300, 3)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after - before <= 257
