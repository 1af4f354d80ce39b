"""Row 4: each operation that writes made to fail in turn, once or from then on; and disks that are really full."""

from __future__ import annotations

import errno
import functools
import json
import multiprocessing
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from tests.torture.commands import STEPS, Said, command, copy_of_run, resume, trained
from tests.torture.failing_disk import ERRORS, FailingDisk
from tests.torture.frame import Case, Row
from tests.torture.killing import words
from tests.torture.rows.kills_while_saving import KINDS
from tests.torture.works import WORKS, place

NAMES = ("checkpoint", "metadata.json", "progress.csv", "events.out", "best.json", ".lock", "learning_curve.png")


def _count(folder: Path) -> int:
    """The operations of a resume, counted in a process of its own."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        run = copy_of_run(folder)
        with FailingDisk(run) as disk:
            resume(run, STEPS + 512)
        theirs.send(len(disk.done))

    process = context.Process(target=child)
    process.start()
    process.join()
    return int(ours.recv())


def _configure(run: Path, fallback: Path | None, goes_on: bool) -> None:
    """Sets the two options about checkpoints that cannot be written."""
    text = (run / "config.yaml").read_text()
    if fallback is not None:
        text = text.replace("fallback_dir: null", f"fallback_dir: {fallback}")
    if goes_on:
        text = text.replace("if_save_fails: stop", "if_save_fails: continue")
    (run / "config.yaml").write_text(text)


def _case(number: int, error: int, lasting: bool, fallback: bool, goes_on: bool) -> Case:
    def case(folder: Path) -> None:
        run = copy_of_run(folder)
        _configure(run, folder / "elsewhere" if fallback else None, goes_on)
        whole = {path.name: (path / "manifest.json").read_bytes() for path in list_checkpoints(run / "checkpoints")}
        with FailingDisk(run, (lambda n: n >= number) if lasting else (lambda n: n == number), error) as disk:
            said = resume(run, STEPS + 512)
        name = disk.done[number]
        words = "error: " if said.code else "warning: "
        line = next(
            (line for line in said.err.splitlines() if line.startswith(words) and os.strerror(error) in line), ""
        )
        assert line or said.code == 0, f"{name}: the cause is not named: {said}"
        assert not line or any(file in line for file in NAMES), f"{name}: no file is named: {said.err}"
        assert "--debug" not in said.err, said.err
        for path in list_checkpoints(run / "checkpoints"):
            assert find_fault(path) is None, f"{name}: {path.name}: {find_fault(path)}"
        left = {path.name: (path / "manifest.json").read_bytes() for path in run.glob("checkpoints/**/step_*")}
        assert all(left.get(step) == manifest for step, manifest in whole.items()), f"{name}: an older state is gone"
        litter = [*run.glob("checkpoints/.*"), *run.glob(".*.tmp*")]
        assert not litter, f"{name}: {litter}"
        status = json.loads((run / "metadata.json").read_text()).get("status")
        told = status == ("completed" if said.code == 0 else "failed") or "metadata.json" in said.err
        told = told or "cannot be locked" in said.err  # it has not begun
        assert told, f"{name}: the status is {status}: {said.err}"
        if fallback and said.code == 4 and "checkpoint" in said.err and "cannot be written" in said.err:
            assert "is saved in" in said.err, f"{name}: {said.err}"
            place = next(iter((folder / "elsewhere").glob("*/ppo_1")))
            assert find_fault(list_checkpoints(place / "checkpoints")[-1]) is None
            assert resume(place, STEPS + 768).code == 0
        again = command("resume", str(run), "--total-timesteps", str(STEPS + 1024), "--no-progress", "--json")
        assert again.code == 0, f"{name}: cannot go on: {again.err}"

    return case


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of a size; only root can make one."""
    place = folder / "disk"
    place.mkdir()
    words_of_mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    subprocess.run(words_of_mount, check=True, stderr=subprocess.DEVNULL)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def can_mount() -> bool:
    """Whether a file system can be made here."""
    failures = suppress(OSError, subprocess.CalledProcessError)
    with tempfile.TemporaryDirectory() as folder, failures, small_disk(Path(folder), 64):
        return True
    return False


def _full(left: int) -> Case:
    """A disk that has room for ``left`` KiB more."""

    def case(folder: Path) -> None:
        with small_disk(folder, 8_192) as disk:
            run = copy_of_run(disk)
            whole = {path.name: (path / "manifest.json").read_bytes() for path in list_checkpoints(run / "checkpoints")}
            status = os.statvfs(disk)
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left * 1024)))
            said = resume(run, STEPS + 512)
            _held(run, whole, said.code, said.err)
            ballast.unlink()
            again = resume(run, STEPS + 1024)
            assert again.code == 0, again.err

    return case


def _outgrown(algo: str) -> Case:
    """A replay that outgrows the disk while it is saved beside training."""

    def case(folder: Path) -> None:
        with small_disk(folder, 3_072) as disk:
            env, settings = KINDS[algo]
            options = {"total_timesteps": 20_000, "num_envs": 64, "num_threads": 1, "n_eval_episodes": 0, **settings}
            line = words("train", algo, env, **options, trackers="csv", device="cpu", keep_checkpoints=2, run_dir=disk)
            said = command(*line)
            assert said.code == 4, f"left with {said.code}: {said.err}"
            run = disk / env.replace("/", "-") / f"{algo}_1"
            _held(run, {}, said.code, said.err)
            assert list_checkpoints(run / "checkpoints"), "no checkpoint is left"

    return case


@functools.cache
def _wanted(name: str) -> tuple[object, object, list[str]]:
    """What a work leaves before it was done and after it, and the operations that it takes; from another process."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def child() -> None:
        work = WORKS[name]
        with tempfile.TemporaryDirectory() as folder:
            here = place(Path(folder) / "place")
            before = work.left(here)
            with FailingDisk(here) as disk:
                said = work.run(here)
            assert said.code == 0, said.err
            theirs.send((before, work.left(here), disk.done))

    process = context.Process(target=child)
    process.start()
    theirs.close()
    return ours.recv()  # type: ignore[no-any-return]


def _work_fails(name: str, number: int, error: int, lasting: bool) -> Case:
    """A work whose disk fails in one operation, or from it on."""

    def case(folder: Path) -> None:
        here = place(folder / "place")
        with FailingDisk(here, (lambda n: n >= number) if lasting else (lambda n: n == number), error):
            said = WORKS[name].run(here)
        _work_held(name, here, said, os.strerror(error))

    return case


def _work_full(name: str, left: int) -> Case:
    """A work on a disk that has room for ``left`` KiB more."""

    def case(folder: Path) -> None:
        with small_disk(folder, 16_384) as disk:
            here = place(disk / "place")
            status, ballast = os.statvfs(disk), disk / "ballast"
            ballast.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - left * 1024)))
            said = WORKS[name].run(here)
            _work_held(name, here, said, os.strerror(errno.ENOSPC), freed=ballast)

    return case


def _work_held(name: str, here: Path, said: Said, reason: str, freed: Path | None = None) -> None:
    """What must hold of a work that a disk failed: the cause named, nothing half done, and it can be done again."""
    work, (before, after, _) = WORKS[name], _wanted(name)
    assert said.code in (0, 2, 3, 4), said
    assert "--debug" not in said.err, said.err
    if said.code:
        assert reason in said.err, f"the cause is not named: {said.err}"
        assert "'" in said.err.partition(reason)[0], f"no file is named: {said.err}"
    left = work.left(here)
    assert left in ((before, None, after) if said.code else (after,)), "something half done was left"
    assert name == "data delete" or left is not None or before is None, "what was there is gone"
    kept = (".writing-made",) if name == "record" else ()
    litter = [path.name for path in here.rglob(".*") if path.name not in (*kept, ".lock", "study.journal.lock")]
    assert not litter, litter
    if freed is not None:
        freed.unlink()
    if left != after:
        again = work.run(here)
        assert again.code == 0, f"it does not go on: {again.err}"
        assert work.left(here) == after, "it comes to something else"


def _held(run: Path, whole: dict[str, bytes], code: int, err: str) -> None:
    """What must hold of a run on a full disk."""
    line = next((line for line in err.splitlines() if os.strerror(errno.ENOSPC) in line), "")
    assert line or code == 0, f"the cause is not named: {err}"
    assert not line or any(file in line for file in NAMES), f"no file is named: {err}"
    left = {path.name: (path / "manifest.json").read_bytes() for path in run.glob("checkpoints/**/step_*")}
    assert all(left.get(step) == manifest for step, manifest in whole.items()), "an older state is gone"
    for path in list_checkpoints(run / "checkpoints"):
        assert find_fault(path) is None, f"{path.name}: {find_fault(path)}"
    litter = [*run.glob("checkpoints/.*"), *run.glob(".*.tmp*")]
    assert not litter, f"{litter}"


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Every operation of a run that goes on, with every error; in the short form a few."""
    trained()
    if can_mount():
        for left in rng.sample(range(400), 1 if short else 20):
            yield f"a disk with {left} KiB left", _full(left)
        for algo in () if short else ("dqn", "sac"):
            yield f"a disk that the replay of {algo} outgrows", _outgrown(algo)
    with tempfile.TemporaryDirectory() as folder:
        total = _count(Path(folder))
    yield from _works_fail(short, rng)
    numbers = sorted(rng.sample(range(total), 4)) if short else range(total)
    for number in numbers:
        lasting, fallback, goes_on = (rng.random() < share for share in (0.5, 0.4, 0.3))
        error = rng.choice(ERRORS)
        kind = "".join(
            word for word, flag in ((" for good", lasting), (" fallback", fallback), (" goes on", goes_on)) if flag
        )
        yield f"{number} {os.strerror(error)}{kind}", _case(number, error, lasting, fallback, goes_on)


def _works_fail(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Everything else that writes, each with some operations that fail and some disks that are full."""
    for name in ("data split",) if short else WORKS:
        if can_mount():
            for left in rng.sample(range(200), 1 if short else 5):
                yield f"{name} on a disk with {left} KiB left", _work_full(name, left)
        total = len(_wanted(name)[2])
        for number in sorted(rng.sample(range(total), min(total, 2 if short else 20))):
            error, lasting = rng.choice(ERRORS), rng.random() < 0.5
            kind = " for good" if lasting else ""
            yield f"{name} {number} {os.strerror(error)}{kind}", _work_fails(name, number, error, lasting)


ROW = Row(
    4,
    "a failing disk: each write, fsync, rename and mkdir in turn",
    "the older state whole, cause and file named, nothing half written left, status told, the run goes on",
    cases,
    {"^a disk": 6, r"^(?!\d)": 60},  # full ones; and other commands than training
    seconds=90,
)
