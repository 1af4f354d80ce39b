"""Row 14: several processes on the same run folders."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rltrain
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from tests.torture.commands import ENV, Said, command, copy_of_run, evaluate, resume
from tests.torture.frame import Case, Row

FORK = multiprocessing.get_context("fork")
WRITER = {
    "--num-envs": 4,
    "--agent.n-steps": 16,
    "--agent.batch-size": 64,
    "--agent.n-epochs": 1,
    "--n-eval-episodes": 1,
    "--keep-checkpoints": 1,
    "--save-freq": 64,
    "--eval-freq": 256,
    "--log-interval": 1,
    "--num-threads": 1,
}


def train(runs: Path, steps: int, seed: int = 0) -> Said:
    """A run that saves after every update and keeps one checkpoint."""
    options = {**WRITER, "--run-dir": runs, "--total-timesteps": steps, "--seed": seed, "--device": "cpu"}
    return command("train", "ppo", ENV, "--no-progress", *(str(word) for pair in options.items() for word in pair))


def in_processes(*works: Callable[[], Any]) -> list[Any]:
    """What functions return that run at the same time, each in a process; an exception's text if one raises."""

    def child(work: Callable[[], Any], pipe: Any) -> None:
        try:
            pipe.send(work())
        except BaseException as error:
            pipe.send(f"{type(error).__name__}: {error}")

    pipes, processes = [], []
    for work in works:
        ours, theirs = FORK.Pipe(duplex=False)
        processes.append(FORK.Process(target=child, args=(work, theirs)))
        processes[-1].start()
        pipes.append(ours)
    answers = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    return answers


def beside_a_writer(read: Callable[[Path], None], times: int) -> Case:
    """Reads a run again and again while it is trained."""

    def case(folder: Path) -> None:
        writer = FORK.Process(target=train, args=(folder, 10_000_000))
        writer.start()
        try:
            run = folder / "rltrain-CartPole-v1" / "ppo_1"
            deadline = time.monotonic() + 150
            while not (run / "checkpoints" / "best.json").exists():
                assert time.monotonic() < deadline, "nothing was trained"
                time.sleep(0.05)
            for _ in range(times):
                read(run)
            assert writer.is_alive(), "the writer has stopped"
        finally:
            writer.kill()
            writer.join()

    return case


def _played(run: Path) -> None:
    said = evaluate(run)
    assert said.code == 0, said.err
    assert said.err == "", said.err


def _best(run: Path) -> None:
    said = command("eval", str(run), "--checkpoint", "best", "--episodes", "1", "--device", "cpu")
    assert said.code == 0, said.err


def _plotted(run: Path) -> None:
    said = command("plot", str(run), "--out", str(run.parent / "curve.png"))
    assert said.code == 0, said.err


def _shown(run: Path) -> None:
    points = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload().Scalars("train/loss")
    steps = [point.step for point in points]
    assert steps == sorted(set(steps))


def _loaded(run: Path) -> None:
    assert rltrain.load(run).step > 0


def starts(number: int) -> Case:
    """Runs that start at the same moment."""

    def case(folder: Path) -> None:
        answers = in_processes(*(lambda seed=seed: train(folder, 512, seed).code for seed in range(number)))
        assert answers == [0] * number, answers
        runs = sorted((folder / "rltrain-CartPole-v1").iterdir(), key=lambda path: int(path.name[4:]))
        assert [run.name for run in runs] == [f"ppo_{index + 1}" for index in range(number)]
        for run in runs:
            (checkpoint,) = {list_checkpoints(run / "checkpoints")[-1]}
            assert find_fault(checkpoint) is None
            assert evaluate(run).code == 0

    return case


def two_writers(folder: Path) -> None:
    """The second one is refused, and the first one goes on."""
    run = copy_of_run(folder)
    answers = in_processes(*(lambda: resume(run, 20_000) for _ in range(2)))
    assert all(isinstance(answer, Said) for answer in answers), answers
    assert sorted(answer.code for answer in answers) == [0, 3], answers
    assert any("in use by another process" in answer.err for answer in answers)
    assert resume(run, 20_256).code == 0


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Starts, readers beside a writer, writers."""
    times = 2 if short else 30
    yield f"{2 if short else 8} starts at once", starts(2 if short else 8)
    readers = {"eval": _played, "eval the best": _best, "plot": _plotted, "TensorBoard": _shown, "load": _loaded}
    for name, read in readers.items():
        if not short or name == "eval":
            yield f"{name} beside a writer that prunes", beside_a_writer(read, times)
    yield "two writers", two_writers


ROW = Row(14, "several processes on a run folder", "no failure, but the second writer's", cases, seconds=240)
