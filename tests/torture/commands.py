"""What rows about files share: a run to damage, commands on it, and what must hold whatever they meet."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import resource
import shutil
import stat
import tempfile
import warnings
from dataclasses import dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import rltrain
from rltrain.cli import main

ENV = "rltrain/CartPole-v1"
OPTIONS: dict[str, Any] = {
    "total_timesteps": 768,
    "num_envs": 4,
    "num_threads": 1,
    "save_freq": 256,
    "eval_freq": 256,
    "n_eval_episodes": 2,
    "log_interval": 1,
    "keep_checkpoints": 20,
    "device": "cpu",
    "agent": {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}
STEPS = OPTIONS["total_timesteps"]
MEMORY = 2**30
"""Bytes by which a command may grow on whatever it is given."""


def kept_folder(prefix: str) -> Path:
    """A new folder, which this process removes at its end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=0)
    return folder


@functools.cache
def trained() -> Path:
    """A run folder with three checkpoints, made once for all cases of a row."""
    folder = kept_folder("torture-run-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rltrain.train("ppo", ENV, progress=False, run_dir=folder, **OPTIONS).run_dir


def copy_of_run(folder: Path) -> Path:
    """A copy of the trained run, in a folder of its own."""
    return Path(shutil.copytree(trained(), folder / "runs" / "ppo_1"))


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str


def command(*words: str) -> Said:
    """Runs a command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        warnings.simplefilter("default")
        code = main([*map(str, words)])
    said = Said(code, out.getvalue(), err.getvalue())
    assert "Traceback" not in said.out + said.err, said.err
    assert said.code in (0, 2, 3, 4), f"{words[0]} left with {said.code}"
    assert said.code == 0 or "error: " in said.err, f"{words[0]} left with {said.code} and no word"
    assert "\x1b" not in (said.out + said.err).replace("\x1b[?25", ""), "an escape sequence reached the terminal"
    return said


def resume(run: Path, steps: int = STEPS + 256) -> Said:
    """Trains the run on."""
    return command("resume", str(run), "--total-timesteps", str(steps), "--no-progress", "--json")


def evaluate(run: Path) -> Said:
    """Plays its policy."""
    return command("eval", str(run), "--episodes", "1", "--device", "cpu")


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a folder and what is in it, without following links."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(folder))
        if stat.S_ISREG(status.st_mode) and status.st_size < 2**26:
            found[name] = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            found[name] = os.readlink(path)
        else:
            found[name] = stat.S_IFMT(status.st_mode), status.st_size if stat.S_ISREG(status.st_mode) else 0
    return found


@contextlib.contextmanager
def bounded_memory() -> Any:
    """Fails if the process grows by more than :data:`MEMORY`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY, f"grew by {grown / 2**20:,.0f} MiB"
