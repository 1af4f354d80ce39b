"""Files of others: nothing is followed, nothing is read without bound, nothing is half written."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from rltrain.storage.files import (
    Damaged,
    check_folder,
    exists,
    keep_damaged,
    may_be_whole,
    open_file,
    read_bytes,
    reason,
    remove,
    remove_left_overs,
    write_atomically,
    write_new,
)
from rltrain.storage.making import replacing
from rltrain.storage.records import parse_json, read_json, read_record, sealed
from tests.torture.failing_disk import FailingDisk


def make(path: Path, kind: str) -> Path:
    outside = path.with_name("outside")
    outside.write_text("precious")
    if kind == "link":
        path.symlink_to(outside)
    elif kind == "dangling link":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
    return path


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "device", "folder", "socket"])
def test_only_a_regular_file_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / "file", kind)
    with pytest.raises(OSError, match=r"it is a .*, not a file") as caught:
        open_file(path)
    assert not may_be_whole(caught.value)
    with pytest.raises(FileExistsError):
        write_new(path, b"new")
    assert exists(path)
    assert (tmp_path / "outside").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "device"])
def test_what_lies_in_the_way_is_replaced_and_not_written_through(tmp_path: Path, kind: str) -> None:
    path = make(tmp_path / "file", kind)
    write_atomically(path, "new")
    assert not path.is_symlink()
    assert read_bytes(path) == b"new"
    with replacing(path) as temporary:
        temporary.write_text("newer")
    assert read_bytes(path) == b"newer"
    assert (tmp_path / "outside").read_text() == "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "outside"]


def test_a_link_to_a_folder_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    check_folder(tmp_path / "folder")
    check_folder(tmp_path / "nothing")
    with pytest.raises(OSError, match="it is a symbolic link, not a folder"):
        check_folder(tmp_path / "link")
    (tmp_path / "folder" / "kept").write_text("")
    remove(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "kept"]


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_bytes(path, 10) == b"x" * 10
    with pytest.raises(Damaged, match="more than 9 bytes"):
        read_bytes(path, 9)
    os.truncate(path, 2**40)
    with pytest.raises(Damaged, match="more than"):
        read_json(path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"a":' * 200 + "1" + "}" * 200, "[" * 100_000, "\xff"])
def test_only_a_json_object_of_few_levels_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_bytes(text.encode("latin-1"))
    with pytest.raises(Damaged, match=r"it is|it holds"):
        read_json(tmp_path / "file")
    assert parse_json('{"a":' * 50 + "1" + "}" * 50)


def test_every_changed_bit_of_a_record_is_noticed(tmp_path: Path) -> None:
    data = {"step": 7, "reward": float("-inf"), "nested": {"a": [1, 2.5, None, "ä"]}}
    whole, path = sealed(data).encode(), tmp_path / "record"
    path.write_bytes(whole)
    assert read_record(path) == data
    for bit in range(0, 8 * len(whole), 3):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(Damaged):
            read_record(path)
    path.write_text(json.dumps(data))  # of a version that knew no checksums
    assert read_record(path) == data


@pytest.mark.parametrize("number", range(4))
def test_what_cannot_be_written_leaves_the_old_and_nothing_else(tmp_path: Path, number: int) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with (
        FailingDisk(tmp_path, lambda n: n == number, errno.ENOSPC) as disk,
        pytest.raises(OSError, match="space") as caught,
    ):
        write_atomically(path, "new")
    assert disk.done == ["open", "write", "fsync", "replace"][: number + 1]
    assert reason(caught.value) == "No space left on device"
    assert caught.value.filename
    assert may_be_whole(caught.value)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_new_files_are_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_new(tmp_path / "file", b"")
        write_atomically(tmp_path / "other", "")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_damaged_files_are_kept_beside(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.host"
    for number, text in enumerate(("first", "second"), start=1):
        path.write_text(text)
        copy = keep_damaged(path)
        write_atomically(path, "whole")
        assert (copy.name, copy.read_text()) == (f"damaged_{number}_events.out.1.host", text)


def test_left_overs_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in (".0123456789abcdef.tmp", ".0123456789abcdef.tmp.json", ".mine.tmp", "file"):
        (tmp_path / name).write_text("")
    remove_left_overs(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "file"]
