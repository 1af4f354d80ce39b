"""SIGINT and SIGTERM at random moments: from the first import on, in training, evaluations, films and waits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from rltrain.runs.layout import list_checkpoints
from tests.torture.frame import Case, Outcome, Row
from tests.torture.works import WORKS, place

CARTPOLE = "rltrain/CartPole-v1"
LIMIT = 2.5
"""Seconds to leave in, an update included; longer where more processes want to run than there are cores."""
SMALL = "--num-envs 4 --agent.n-steps 16 --agent.batch-size 64 --agent.n-epochs 1 --num-threads 1 --device cpu"
ENDLESS = f"{SMALL} --total-timesteps 100000000 --no-progress"
SHORT = f"{SMALL} --total-timesteps 64 --no-progress --n-eval-episodes 10000000"

Ready = Callable[[Path, int], bool]


def catches(folder: Path, pid: int) -> bool:
    """Whether the process has its handlers, which it sets before all other imports."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def has_a_run(folder: Path, pid: int) -> bool:
    """Whether the folder of the run is there."""
    return any(folder.glob("*/*/config.yaml"))


def has_saved(folder: Path, pid: int) -> bool:
    """Whether a checkpoint is there: what follows is the evaluation."""
    return any(folder.glob("*/*/checkpoints/step_*"))


def has_films(folder: Path, pid: int) -> bool:
    """Whether it began to film."""
    return any(folder.glob("*/*/videos"))


MOMENTS: dict[str, tuple[str, Ready, float]] = {
    "start": (f"train ppo {CARTPOLE} {ENDLESS}", catches, 2.5),
    "start of a list": ("envs", catches, 0.3),
    "training": (f"train ppo {CARTPOLE} {ENDLESS}", has_a_run, 1.5),
    "saving": (
        f"train dqn {CARTPOLE} --total-timesteps 100000000 --save-freq 64 --no-progress --num-threads 1",
        has_saved,
        1.5,
    ),
    "evaluation at the end": (f"train ppo {CARTPOLE} {SHORT}", has_saved, 1.5),
    "evaluation": (f"train ppo {CARTPOLE} {ENDLESS} --eval-freq 64 --n-eval-episodes 10000000", has_a_run, 1.5),
    "film": (f"train ppo rltrain/Pendulum-v1 {ENDLESS} --video-freq 64 --env.max-episode-steps 2000", has_films, 1.5),
    "workers": (f"train ppo CartPole-v1 {ENDLESS} --env.vectorization async", has_a_run, 1.5),
    "spawned workers": (
        f"train ppo CartPole-v1 {ENDLESS} --env.vectorization async --env.start-method spawn",
        catches,
        5.0,
    ),
    "ranks": (f"train ppo {CARTPOLE} {ENDLESS} --nproc 2", has_a_run, 1.5),
    "start of ranks": (f"train ppo {CARTPOLE} {ENDLESS} --nproc 2", catches, 4.0),
    "seeds": (f"train ppo {CARTPOLE} {ENDLESS} --num-seeds 2", has_a_run, 1.5),
}


def case_of(moment: str, number: signal.Signals, share: float) -> Case:
    """Sends a signal to the whole group, as a terminal does, and looks at how it leaves and what is left."""

    def case(folder: Path) -> Outcome:
        words, ready, window = MOMENTS[moment]
        command = [sys.executable, "-m", "rltrain", *words.split()]
        if words.startswith("train"):
            command += ["--run-dir", str(folder / "runs")]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, env=env, start_new_session=True, **streams)  # type: ignore[call-overload]
        try:
            deadline = time.monotonic() + 60
            while not ready(folder / "runs", process.pid):
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline, "it did not begin"
                time.sleep(0.002)
            time.sleep(share * window)
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            if process.poll() is not None:
                return Outcome(True, "it had ended")
            began = time.monotonic()
            os.killpg(process.pid, number)
            said = process.communicate(timeout=60)[1]
            seconds = time.monotonic() - began
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        _left_well(process.returncode, number, said, seconds, children)
        for run in (folder / "runs").glob("*/*/"):
            assert list_checkpoints(run / "checkpoints"), "nothing was saved"
            config = (run / "config.yaml").read_text()  # what was interrupted would take as long again
            (run / "config.yaml").write_text(
                config.replace("episodes: 10000000", "episodes: 1").replace("freq: 64", "freq: 0")
            )
            resume = [sys.executable, "-m", "rltrain", "resume", str(run), "--no-progress"]
            step = int(list_checkpoints(run / "checkpoints")[-1].name.removeprefix("step_"))
            done = subprocess.run(
                [*resume, "--total-timesteps", str(step + 1)], capture_output=True, text=True, env=env, timeout=90
            )
            assert done.returncode == 0, f"it does not go on: {done.stderr}"
        return Outcome(True, figures={"seconds": seconds})

    return case


AT_WORK: dict[str, tuple[str, float]] = {  # in a folder that tests.torture.works made; and seconds from its start on
    "record": ("record run --episodes 1000000 --out made --device cpu", 6.0),
    "data import": (WORKS["data import"].line, 3.0),
    "data split": (WORKS["data split"].line, 2.5),
    "data export": (WORKS["data export parquet"].line, 2.5),
    "export": (WORKS["export onnx"].line, 6.0),
    "register": (WORKS["models register"].line, 3.0),
    "report": (WORKS["report"].line, 3.0),
    "watch": (WORKS["watch"].line, 5.0),
    "sweep": (f"sweep ppo {CARTPOLE} --trials 100 --out sweep {SMALL.replace('--device cpu', '')}", 12.0),
    "cloning": (f"train bc {CARTPOLE} --data data {ENDLESS.replace(SMALL, '--num-threads 1')} --run-dir runs", 6.0),
    "serve": ("serve run --port 0", 5.0),
    "serve and log": ("serve run --port 0 --log-decisions made", 5.0),
    "decisions": (WORKS["data import decisions"].line, 3.0),
    "ask": (f"preferences ask prefs {CARTPOLE} --episodes 1000000 --device cpu", 6.0),
    "fit": ("preferences fit prefs --seed 1 --epochs 100000 --patience 100000", 6.0),
    "answer": ("preferences label prefs --labeller another", 8.0),
    "films of clips": (WORKS["preferences export"].line, 6.0),
    "rounds": (f"preferences train other ppo {CARTPOLE} --oracle --pairs 8 --segment 5 {SMALL} --no-progress", 15.0),
    "retrain": (WORKS["retrain"].line, 8.0),
    "promote": (WORKS["models promote"].line, 4.0),
    "estimate": (f"estimate ppo {CARTPOLE} --seconds 100 {SMALL}", 8.0),
    "import of a policy": (WORKS["import-sb3"].line, 4.0),
    "new-env": (WORKS["new-env"].line, 1.0),
    "cloud": (WORKS["cloud"].line, 3.0),
}

WITHOUT_END = ("record", "cloning", "sweep", "ask", "fit", "estimate")


def at_work(name: str, number: signal.Signals, share: float) -> Case:
    """Sends a signal to a command that writes, and looks at how it leaves and what is left."""

    def case(folder: Path) -> Outcome:
        line, window = AT_WORK[name]
        here = place(folder / "place")
        command = [sys.executable, "-m", "rltrain", *line.split()]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=here, env=env, start_new_session=True, **streams)  # type: ignore[call-overload]
        try:
            while process.poll() is None and not catches(here, process.pid):
                time.sleep(0.002)
            time.sleep(share * window)
            if process.poll() is not None:
                return Outcome(True, "it had ended")
            children = psutil.Process(process.pid).children(recursive=True)
            began = time.monotonic()
            os.killpg(process.pid, number)
            said = process.communicate(timeout=60)[1]
            seconds = time.monotonic() - began
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        ends = () if name in WITHOUT_END else (0,)  # others may have been ending; servers end well by a signal
        _left_well(process.returncode, number, said, seconds, children, ends)
        kept = (".writing-made",) if name == "record" else ()
        litter = [path.name for path in here.rglob(".*") if path.name not in (*kept, ".lock", "study.journal.lock")]
        assert not litter, litter
        return Outcome(True, figures={"seconds": seconds})

    return case


def _left_well(
    code: int,
    number: signal.Signals,
    said: str,
    seconds: float,
    children: list[psutil.Process],
    also: tuple[int, ...] = (),
) -> None:
    limit = LIMIT * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert seconds < limit, f"it took {seconds:.1f} s to leave"
    assert code in (128 + number, *also), f"exit code {code}: {said[-300:]}"
    assert "Traceback" not in said, said
    assert "Fatal" not in said, said
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE], "it left children behind"


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """Five moments of each kind; in the short form one of three kinds."""
    kinds = ["start", "evaluation at the end", "workers"] if short else [*MOMENTS]
    for moment in kinds:
        for k in range(1 if short else 5):
            number, share = rng.choice([signal.SIGINT, signal.SIGTERM]), rng.random()
            yield f"{moment} {k}, {number.name} after {share:.2f} of it", case_of(moment, number, share)
    for name in ("data import",) if short else AT_WORK:
        for k in range(1 if short else 5):
            number, share = rng.choice([signal.SIGINT, signal.SIGTERM]), rng.random()
            yield f"{name} {k}, {number.name} after {share:.2f} of it", at_work(name, number, share)


def summary(figures: list[dict[str, float]]) -> str:
    """The longest times to leave."""
    seconds = sorted(each["seconds"] for each in figures if "seconds" in each)
    if not seconds:
        return ""
    return f"median {seconds[len(seconds) // 2]:.2f} s to leave, longest {seconds[-1]:.2f} s"


ROW = Row(
    5,
    "SIGINT or SIGTERM at random moments, from the first import on: training in all its ways, and all else that writes",
    "right exit code, resumable, within 2 s and an update, no orphan, no traceback",
    cases,
    {rf"^({'|'.join(AT_WORK)}) \d": 40},
    seconds=240,
    summary=summary,
)
