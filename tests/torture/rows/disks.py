"""Row 4: each operation that writes made to fail in turn, once or from then on."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from tests.torture.commands import STEPS, command, copy_of_run, resume, trained
from tests.torture.failing_disk import ERRORS, FailingDisk
from tests.torture.frame import Case, Row

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


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Every operation of a run that goes on, with every error; in the short form a few."""
    trained()
    with tempfile.TemporaryDirectory() as folder:
        total = _count(Path(folder))
    numbers = sorted(rng.sample(range(total), 4)) if short else range(total)
    for number in numbers:
        lasting, fallback, goes_on = (rng.random() < share for share in (0.5, 0.4, 0.3))
        error = rng.choice(ERRORS)
        kind = "".join(
            word for word, flag in ((" for good", lasting), (" fallback", fallback), (" goes on", goes_on)) if flag
        )
        yield f"{number} {os.strerror(error)}{kind}", _case(number, error, lasting, fallback, goes_on)


ROW = Row(
    4,
    "a failing disk: each write, fsync, rename and mkdir in turn",
    "the older state whole, cause and file named, nothing half written left, status told, the run goes on",
    cases,
    seconds=90,
)
