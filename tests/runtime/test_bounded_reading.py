"""Every file that somebody names or has made is read within bounds: of size, of kind and of time."""

import json
import os
import threading
import time

import pytest
import torch

from rltrain.errors import ConfigError
from rltrain.runs.checkpoint import save_checkpoint
from rltrain.runs.layout import MANIFEST, POLICY
from rltrain.runs.verify import find_fault
from rltrain.settings import YAML_LIMIT, load_config
from rltrain.storage.files import Damaged, keep_damaged, link, read_given
from rltrain.storage.records import CHECKSUM, sealed

GIB = 2**30


@pytest.fixture
def checkpoint(tmp_path):
    return save_checkpoint(tmp_path, 8, {"weight": torch.ones(3)}, {"step": 8, "moment": torch.zeros(3)})


def list_files(checkpoint, **sizes):
    """Makes a manifest list files of these sizes."""
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    del manifest[CHECKSUM]
    for name, size in sizes.items():
        manifest["files"][name] = {"bytes": size, "sha256": "0" * 64}
    (checkpoint / MANIFEST).write_text(sealed(manifest))


def test_a_large_file_of_holes_is_not_read(checkpoint):
    os.truncate(checkpoint / POLICY, 60 * GIB)
    list_files(checkpoint, **{POLICY: 60 * GIB})
    began = time.monotonic()
    assert find_fault(checkpoint) == f"{POLICY} is nearly nothing but holes"
    assert time.monotonic() - began < 2


def test_nor_are_many_smaller_ones(checkpoint):
    names = {f"segment_{k:016x}.safetensors": GIB // 2 for k in range(100)}
    for name, size in names.items():
        (checkpoint / name).touch()
        os.truncate(checkpoint / name, size)
    list_files(checkpoint, **names)
    began = time.monotonic()
    assert "nearly nothing but holes" in find_fault(checkpoint)
    assert time.monotonic() - began < 2


def test_nor_is_one_file_under_several_names(checkpoint):
    twin = "segment_0000000000000000.safetensors"
    os.link(checkpoint / POLICY, checkpoint / twin)
    list_files(checkpoint, **{twin: (checkpoint / POLICY).stat().st_size})
    assert find_fault(checkpoint) == f"{twin} is the same file as {POLICY}"


def test_a_file_of_another_size_is_not_read(checkpoint):
    os.truncate(checkpoint / POLICY, 100 * GIB)
    os.truncate(checkpoint / POLICY, 17)
    assert "has 17 bytes instead of" in find_fault(checkpoint)


def test_a_named_file_may_lie_behind_a_link(tmp_path):
    (tmp_path / "real.yaml").write_text("seed: 3\n")
    (tmp_path / "named.yaml").symlink_to("real.yaml")
    assert load_config(tmp_path / "named.yaml") == {"seed": 3}


def test_it_may_be_what_a_shell_gives_for_a_command(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"seed: 3\n")
    os.close(writer)
    assert load_config(f"/dev/fd/{reader}") == {"seed": 3}
    os.close(reader)


def test_a_pipe_is_read_while_it_is_written(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write():
        with pipe.open("w") as file:
            for line in ("seed: 3\n", "num_envs: 4\n"):
                file.write(line)
                file.flush()

    thread = threading.Thread(target=write)
    thread.start()
    assert read_given(pipe) == "seed: 3\nnum_envs: 4\n"
    thread.join()


def test_a_pipe_that_nobody_writes_is_left(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is a pipe, and nothing more came through it"):
        read_given(pipe, seconds=0.1)


def test_a_pipe_without_an_end_is_left(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"x" * 5_000)
    with pytest.raises(Damaged, match="more than 4,000 bytes"):
        read_given(f"/dev/fd/{reader}", 4_000)
    with pytest.raises(OSError, match="nothing more came"):
        read_given(f"/dev/fd/{reader}", 4_000, seconds=0.1)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/tty", "socket", "folder", "nothing", "long", "bytes"])
def test_anything_else_is_one_line(name, tmp_path):
    import socket

    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_text("#" * (YAML_LIMIT + 1))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    here = os.getcwd()
    os.chdir(tmp_path)  # the name of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        os.chdir(here)
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load_config(tmp_path / name)
    assert caught.value.fix == "Check its path."


def test_without_hard_links_a_file_is_copied(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "link")
    (tmp_path / "progress.csv").write_text("a,b\n")
    with pytest.raises(OSError, match="no hard links"):
        link(tmp_path / "progress.csv", tmp_path / "other")
    assert keep_damaged(tmp_path / "progress.csv").read_text() == "a,b\n"
