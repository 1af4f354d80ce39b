"""Row 14: several processes on the same run folders."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import rltrain
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault
from rltrain.serving.model import open_model
from tests.torture.commands import ENV, Said, command, copy_of_run, evaluate, resume, trained
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


def _verb(*words: str) -> Callable[[Path], None]:
    """A verb on the run, given ``RUN``, a whole ``OTHER`` run and a new place ``OUT``."""

    def read(run: Path) -> None:
        place = Path(tempfile.mkdtemp(dir=run.parents[1]))
        known = {"RUN": run, "RUNS": run.parents[1], "OTHER": trained(), "OUT": place / "out", "PLACE": place}
        said = command(*(str(known.get(word, word)).replace("OUT", str(place / "out")) for word in words))
        assert said.code == 0, said.err
        shutil.rmtree(place)

    return read


def _served(run: Path) -> None:
    assert open_model(run).version.startswith("ppo-")


VERBS: dict[str, Callable[[Path], None]] = {
    "show": _verb("show", "RUN"),
    "runs": _verb("runs", "RUNS"),
    "compare": _verb("compare", "RUN", "OTHER"),
    "report": _verb("report", "RUN", "--out", "OUT.html"),
    "export": _verb("export", "RUN", "--to", "onnx", "--out", "OUT.onnx"),
    "export for Stable-Baselines3": _verb("export", "RUN", "--to", "sb3", "--out", "OUT.zip"),
    "models register": _verb("models", "register", "cart", "RUN", "--registry", "OUT"),
    "record": _verb("record", "RUN", "--episodes", "2", "--out", "OUT", "--device", "cpu"),
    "watch": _verb("watch", "RUN", "--out", "OUT.gif", "--device", "cpu"),
    "serve": _served,
}


def beside_removals(words: Callable[[Path, Path], Iterator[tuple[str, ...]]], times: int) -> Case:
    """Reads runs that are copied to a place and removed from it again and again, file by file."""

    def come_and_go(place: Path) -> None:
        whole = trained()
        for number in itertools.count():
            run = place / f"ppo_{number % 3}"
            shutil.copytree(whole, run, dirs_exist_ok=True)
            shutil.rmtree(run)

    def case(folder: Path) -> None:
        place = folder / "runs" / "cart"
        place.mkdir(parents=True)
        copy_of_run(folder / "runs" / "other")
        process = FORK.Process(target=come_and_go, args=(place,))
        process.start()
        try:
            for _ in range(times):
                for line in words(place / "ppo_1", folder):
                    assert command(*line).code in (0, 4), line
            assert process.is_alive(), "the removals have stopped"
        finally:
            process.kill()
            process.join()

    return case


def _all_readers(run: Path, folder: Path) -> Iterator[tuple[str, ...]]:
    """Every verb that reads, on the run that comes and goes or on the folder that it is in."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    yield "show", str(run)
    yield "runs", str(folder / "runs")
    yield "report", str(folder / "runs"), "--out", str(out / "page.html")
    yield "plot", str(run), "--out", str(out / "curve.png")
    yield "compare", str(run), str(trained())
    yield "eval", str(run), "--episodes", "1", "--device", "cpu"
    yield "export", str(run), "--to", "sb3", "--out", str(out / "policy.zip")
    yield "models", "register", "cart", str(run), "--registry", str(out / "models")


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
    yield f"{2 if short else 8} starts at once", starts(2 if short else 8)
    readers = {"eval": _played, "eval the best": _best, "plot": _plotted, "TensorBoard": _shown, "load": _loaded}
    for name, read in {**readers, **VERBS}.items():
        if not short or name in ("eval", "show"):
            seldom = 10 if name in VERBS else 30  # an export takes seconds
            yield f"{name} beside a writer that prunes", beside_a_writer(read, 2 if short else seldom)
    yield "runs that are being removed", beside_removals(_all_readers, 1 if short else 12)
    yield "two writers", two_writers


ROW = Row(14, "several processes on a run folder", "no failure, but the second writer's", cases, seconds=420)
