"""What was damaged is named and kept, what is whole is used, and what cannot be read is not taken for missing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import rltrain
from rltrain.cli import main
from rltrain.errors import CheckpointError, ConfigError
from rltrain.runs.checkpoint import load_policy, save_checkpoint
from rltrain.runs.find import read_checkpoint
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import MANIFEST, STATE, list_checkpoints, prune, remove_unfinished, step_of
from rltrain.runs.verify import find_fault
from rltrain.settings import load_config
from rltrain.tracker import RunInfo
from rltrain.trackers.csv import CsvTracker, read_progress
from rltrain.trackers.event_files import records
from rltrain.trackers.tensorboard import TensorBoardTracker

TINY: dict[str, Any] = {
    "total_timesteps": 256,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 64,
    "eval_freq": 128,
    "n_eval_episodes": 1,
    "log_interval": 1,
    "device": "cpu",
    "progress": False,
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rltrain.train("ppo", "rltrain/CartPole-v1", run_dir=tmp_path_factory.mktemp("runs"), **TINY).run_dir


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / "ppo_1"))


def save(folder: Path, step: int, value: float = 1.0) -> Path:
    return save_checkpoint(folder, step, {"x": torch.full((3,), value)}, {"z": value, "y": torch.full((2,), value)})


def flip(path: Path, bit: int) -> bytes:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return bytes(content)


# ---------------------------------------------------------------------------------------------- checkpoints


def test_a_changed_manifest_is_blamed_itself(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    whole = (path / MANIFEST).read_bytes()
    for bit in range(0, 8 * len(whole), 29):
        flip(path / MANIFEST, bit)
        assert (find_fault(path) or "").startswith(MANIFEST), bit
        (path / MANIFEST).write_bytes(whole)
    assert find_fault(path) is None


def test_a_manifest_from_elsewhere_is_blamed_itself(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    path, other, same = save(tmp_path, 7), save(tmp_path, 8), save(tmp_path / "copy", 7, 2.0)
    shutil.copy(other / MANIFEST, path / MANIFEST)
    assert find_fault(path) == f"{MANIFEST} is of step 8"
    shutil.copy(same / MANIFEST, path / MANIFEST)
    assert (find_fault(path) or "").startswith(f"{MANIFEST} does not belong to the files beside it")
    other.rename(tmp_path / "step_000000000009")
    assert find_fault(tmp_path / "step_000000000009") == f"{MANIFEST} is of step 8"


def test_odd_names_are_no_checkpoints(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    for name in ("step_²", "step_٣", "step_7", f"step_{'9' * 30}", "step_", "superseded_²", "step_00000000000x"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_000000000009").symlink_to(path)
    assert list_checkpoints(tmp_path) == [path]
    again = save(tmp_path, 7)
    assert again == path
    assert (tmp_path / "superseded_1" / path.name).is_dir()


def test_checkpoints_are_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            path = save(tmp_path, umask)
        finally:
            os.umask(before)
        assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {mode}


def test_one_that_vanishes_while_it_is_read_is_done_without(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2, 3):
        save(folder, step)

    def read(path: Path) -> float:
        if step_of(path) == 3:
            shutil.rmtree(path)
        return float(load_policy(path)["x"][0])

    path, skipped, value = read_checkpoint(tmp_path, "latest", read)
    assert (step_of(path), skipped, value) == (2, [], 1.0)
    with pytest.raises(CheckpointError, match="no checkpoint '3'"):
        read_checkpoint(tmp_path, 3, read)


def test_what_a_killed_pruning_left_is_no_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    half = tmp_path / ".pruned-step_000000000001-0"
    list_checkpoints(tmp_path)[0].rename(half)
    (half / STATE).unlink()
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [2]
    remove_unfinished(tmp_path)
    prune(tmp_path, 1, None)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000000002"]


# ------------------------------------------------------------------------------- what cannot be read


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No further file can be opened."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0 if used < 3 else 3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextmanager
def another_user() -> Iterator[None]:
    """Without root's rights, where the tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def assert_said(error: CheckpointError, reason: str) -> None:
    assert reason in error.cause
    text = f"{error.cause} {error.fix}"
    assert "missing" not in text
    assert "rain anew" not in text
    assert "damaged" not in text


def test_too_many_open_files_are_not_a_missing_checkpoint(run: Path) -> None:
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        find_fault(list_checkpoints(run / "checkpoints")[-1])
    assert_said(caught.value, "Too many open files")
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        list_checkpoints(run / "checkpoints")
    assert_said(caught.value, "Too many open files")
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        RunFolder(run).metadata()
    assert_said(caught.value, "Too many open files")
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        RunFolder(run).config()
    assert_said(caught.value, "Too many open files")


@pytest.mark.parametrize(
    "name",
    ["", "config.yaml", "metadata.json", "checkpoints", "checkpoints/step_000000000256/policy.safetensors"],
)
def test_a_lack_of_permission_is_not_a_missing_file(trained: Path, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        run = Path(shutil.copytree(trained, f"{folder}/ppo_1"))
        (run / name).chmod(0)
        with another_user(), pytest.raises(CheckpointError) as caught:
            rltrain.load(run)
        assert_said(caught.value, "Permission denied")
        assert (run / name).name in caught.value.cause
        (run / name).chmod(0o755)
        with another_user():
            assert rltrain.load(run).step == 256


# ------------------------------------------------------------------------------------ files of the run folder


def test_a_link_in_a_run_folder_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "linked").symlink_to(run.parent)
    assert rltrain.load(tmp_path / "linked" / "ppo_1").step == 256
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    for words in (["eval"], ["resume", "--total-timesteps", "999"]):
        assert main([words[0], str(run), *words[1:]]) == 4
        assert "checkpoints' cannot be used: it is a symbolic link, not a folder" in capsys.readouterr().err
    assert len(list((tmp_path / "elsewhere").iterdir())) > 2


def test_a_damaged_configuration_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (run / "config.yaml").read_text()
    for text in (
        "",
        "{",
        whole[:-200] + "\0",
        whole.replace("algo: ppo", "algo: qpo"),
        whole.replace("seed: 0", "seed: x"),
    ):
        (run / "config.yaml").write_text(text)
        for verb in ("eval", "resume"):
            assert main([verb, str(run)]) == 4
            assert "config.yaml'" in capsys.readouterr().err.splitlines()[0]
    (run / "config.yaml").write_text(whole.replace("seed: 0", "seed: 1"))
    with pytest.warns(UserWarning, match=r"config\.yaml' was changed since the run was made"):
        rltrain.load(run)
    (run / "config.yaml").unlink()
    assert main(["eval", str(run)]) == 4
    assert "It has checkpoints: put the config.yaml" in capsys.readouterr().err


def test_a_damaged_note_of_the_best_is_named_and_written_anew(run: Path) -> None:
    best = RunFolder(run).best()
    flip(run / "checkpoints" / "best.json", 100)
    with pytest.raises(CheckpointError, match=r"best\.json' cannot be read: it"):
        rltrain.load(run, checkpoint="best")
    with pytest.warns(UserWarning, match=r"best\.json.*written anew"):
        rltrain.resume(run, total_timesteps=320, progress=False)
    assert RunFolder(run).best() == best


NAMES = [*zip("abcdefgh", "bcdefghi", strict=True)]
ALIASES = "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in NAMES)
MERGES = "".join(f"{b}: &{b} {{<<: [{', '.join(['*' + a] * 10)}]}}\n" for a, b in NAMES)


@pytest.mark.parametrize(
    "text",
    [
        f"a: &a [1]\n{ALIASES}",
        f"a: &a {{x: 1}}\n{MERGES}",
        "a: &a [*a]",
        "[" * 99,
        "".join(" " * i + "a:\n" for i in range(80)),
    ],
    ids=["aliases", "merges", "itself", "brackets", "indentation"],
)
def test_yaml_does_not_grow(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "config.yaml")


def test_names_do_not_give_orders_to_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("algo: ppo", 'algo: "\\e]0;owned\\a\\x01"'))
    assert main(["eval", str(run)]) == 4
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert r"\x01" in error


# ------------------------------------------------------------------------------------------------ curves


def info(folder: Path, resume_step: int | None = None) -> RunInfo:
    return RunInfo(folder, 1_000, resume_step)


def warned(work: Callable[[], object]) -> str:
    """The warnings of a function, also those that were given before."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return "\n".join(str(each.message) for each in caught)


def table(folder: Path, rows: int = 16) -> bytes:
    tracker = CsvTracker(info(folder))
    for step in range(10, 10 * rows + 10, 10):
        tracker.log({"train/loss": step / 7, "rollout/ep_rew_mean": -step / 3}, step)
    tracker.close()
    return (folder / "progress.csv").read_bytes()


def test_a_byte_order_mark_costs_no_row(tmp_path: Path) -> None:
    whole = table(tmp_path)
    (tmp_path / "progress.csv").write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    CsvTracker(info(tmp_path, 160)).close()
    assert (tmp_path / "progress.csv").read_bytes() == whole


def test_a_flipped_bit_costs_a_table_one_row_at_most(tmp_path: Path) -> None:
    whole = table(tmp_path)
    path, header = tmp_path / "progress.csv", whole.index(b"\n")
    for bit in range(0, 8 * len(whole) - 8, 43):
        path.write_bytes(whole)
        damaged = flip(path, bit)
        said = warned(lambda: CsvTracker(info(tmp_path, 160)).close())
        copies = list(tmp_path.glob("damaged_*"))
        rows = read_progress(path)["time/total_timesteps"] if path.read_bytes().count(b"\n") > 1 else []
        assert len(rows) >= 14 or copies, bit  # a lost end of a line costs two
        assert len(rows) >= 14 or bit // 8 <= header, bit
        for copy in copies:
            assert copy.read_bytes() == damaged
            assert f"'{path}' has" in said
            copy.unlink()


def test_a_flipped_bit_costs_an_event_file_one_record_at_most(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(info(tmp_path))
    for step in range(10, 170, 10):
        tracker.log({"train/loss": step / 7}, step)
    (path,) = tmp_path.glob("events.*")
    whole = path.read_bytes()
    every = [record for record, _ in records(whole)]
    assert len(every) == 18
    for bit in range(0, 8 * len(whole), 211):
        path.write_bytes(whole)
        damaged = flip(path, bit)
        said = warned(lambda: TensorBoardTracker(info(tmp_path, 160)).close())
        kept = [record for record, _ in records(path.read_bytes())]
        assert kept == [record for record in every if record in kept]
        assert len(kept) == 17, bit
        (copy,) = tmp_path.glob("damaged_*")
        assert copy.read_bytes() == damaged
        assert "tfevents" not in copy.name
        assert f"'{path}' is damaged" in said
        for file in tmp_path.iterdir():
            if file != path:
                file.unlink()


def test_an_event_file_with_nothing_to_forget_is_not_touched(tmp_path: Path) -> None:
    tracker = TensorBoardTracker(info(tmp_path))
    tracker.log({"train/loss": 1.0}, 10)
    (path,) = tmp_path.glob("events.*")
    before = path.stat()
    TensorBoardTracker(info(tmp_path, 10)).close()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_odd_names_of_event_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "events.out.tfevents.5.link").symlink_to("outside")
    (tmp_path / "events.out.tfevents.7.folder").mkdir()
    for name in ("events.out.tfevents.9xyz", "events.out.tfevents.²", f"events.out.tfevents.{'9' * 40}"):
        (tmp_path / name).write_bytes(b"x")
    before = sorted(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="is left as it is: it is a"):
        TensorBoardTracker(info(tmp_path, 10)).close()
    assert [path for path in sorted(tmp_path.iterdir()) if path in before] == before
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert json.dumps([path.name for path in tmp_path.glob("damaged_*")]) == "[]"
