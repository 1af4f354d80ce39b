"""A trial of a run: the run itself for some seconds, in a folder that is thrown away, and what it took."""

from __future__ import annotations

import math
import signal
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import psutil
import torch
from torch import Tensor

from rltrain.callbacks import Callback
from rltrain.config import CostConfig, TrainConfig
from rltrain.cost.meter import HOUR
from rltrain.process.stopping import Stopped
from rltrain.training.launch import start
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult
from rltrain.training.trainer import Trainer

WARM_UP = 3  # updates that are left out at least: libraries set themselves up, and torch.compile compiles
PARTS = 5  # of the time that was measured, whose speeds are compared
FOREVER = 2**62  # environment steps
TRACKERS = ("csv", "tensorboard")
"""Those that write here and nowhere else."""


@dataclass(frozen=True)
class Trial:
    """What a trial took.

    Attributes:
        steps_per_second: Environment steps a second, over all environments and ranks, without compilation.
        slowest: That of the slowest fifth of the time.
        fastest: That of the fastest.
        updates: Updates that were measured.
        left_out: Updates before them.
        seconds: Seconds that were measured.
        steps_per_update: Environment steps between two updates.
        startup_seconds: Before the first update, without compilation.
        compile_seconds: Of compilation.
        save_seconds: Of one checkpoint.
        evaluation_seconds: Of one evaluation with a policy that has hardly learned; None where none is wanted.
        memory_bytes: Of all processes, with the replay full.
        accelerator_bytes: Of the accelerator, if there is one.
        kwh: Energy of an hour of this machine, by codecarbon; None where it was not asked.
        device: The device.
    """

    steps_per_second: float
    slowest: float
    fastest: float
    updates: int
    left_out: int
    seconds: float
    steps_per_update: int
    startup_seconds: float
    compile_seconds: float
    save_seconds: float
    evaluation_seconds: float | None
    memory_bytes: int
    accelerator_bytes: int | None
    kwh: float | None
    device: str

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Timer(Callback):
    """Notes when updates end, and ends the trial.

    Args:
        seconds: How long to measure, after the updates that are left out.
        episodes: Episodes of an evaluation to play at the end; 0 for none.
    """

    def __init__(self, seconds: float, episodes: int = 0) -> None:
        self.seconds, self.episodes = seconds, episodes
        self.marks: list[tuple[float, int, float]] = []  # seconds by the clock, environment steps, seconds compiling
        self.trainer: Trainer | None = None
        self.memory = 0
        self.evaluation: float | None = None  # seconds

    def on_update(self, trainer: Any, metrics: dict[str, Tensor | float]) -> None:
        """Notes the time, once the device has done what it was told."""
        self.trainer = trainer
        if trainer.env.device.type != "cpu":
            torch.accelerator.synchronize(trainer.env.device)
        self.marks.append((time.perf_counter(), trainer.global_step, trainer.compile_seconds))
        measured = self.measured()
        if len(measured) > 1 and measured[-1][0] - measured[0][0] >= self.seconds:
            self.memory = memory_of_processes()
            trainer.stop()
            if self.episodes and trainer.ranks.first:
                self.evaluation = self._evaluated(trainer)

    def _evaluated(self, trainer: Any) -> float | None:
        """Seconds of an evaluation, those of the episodes that time was up for included; None if it fails."""
        began = time.perf_counter()
        try:
            played = trainer.play("trial", number=self.episodes)
        except Exception as error:  # a run leaves such an evaluation out, too
            warnings.warn(f"An evaluation cannot be tried. {error}", stacklevel=2)
            return None
        return (time.perf_counter() - began) * self.episodes / max(len(played.returns), 1)

    def measured(self) -> list[tuple[float, int, float]]:
        """The marks from the end of the warm-up on: some updates, a tenth of the time, and all compilation."""
        first = self.marks[0][0]
        compiled = self.marks[-1][2]
        return [
            mark
            for number, mark in enumerate(self.marks, 1)
            if (number >= WARM_UP and mark[0] - first >= 0.1 * self.seconds and mark[2] == compiled)
            or (number > 1 and mark[0] - first >= self.seconds and mark[2] == compiled)  # updates that take so long
        ]


def memory_of_processes() -> int:
    """Bytes that this process and those that it started hold in memory."""
    here = psutil.Process()
    total = 0
    for process in (here, *here.children(recursive=True)):
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:  # it has ended meanwhile
            continue
    return total


def try_run(
    config: TrainConfig, seconds: float, *, env_class: type | None = None, command: Sequence[str] | None = None
) -> Trial | None:
    """Trains for some seconds as the run would, without evaluations, films and checkpoints but one at the end.

    An agent that waits before it learns learns after one minibatch here; so the steps that it would only collect in
    count as if it learned in them.

    Args:
        config: The configuration of the run.
        seconds: How long to measure.
        env_class: The environment class, if it has no registered id.
        command: The arguments of ``rltrain`` that further ranks are started with.

    Returns:
        What it took; None on ranks other than the first.

    Raises:
        ConfigError: The run could not be started either.
        RunError: It failed.
        Stopped: A signal asked for it.
    """
    timer = Timer(seconds, config.n_eval_episodes)
    with tempfile.TemporaryDirectory(prefix="rltrain-trial-") as folder:
        began = time.perf_counter()
        request = RunRequest(
            _short(config, folder, seconds), env_class, [timer], False, command, total_timesteps=FOREVER
        )
        result = start(request)
    if result.stopped_by == "interrupted":
        raise Stopped(result.signal or signal.SIGINT)
    trainer = timer.trainer
    assert trainer is not None
    return _read(timer, result, trainer, began) if trainer.ranks.first else None


def _short(config: TrainConfig, folder: str, seconds: float) -> TrainConfig:
    """The configuration of the trial."""
    agent: Any = config.agent
    if (waits := getattr(agent, "learning_starts", None)) is not None:
        agent = agent.model_copy(update={"learning_starts": min(waits, int(getattr(agent, "batch_size", 256) or 256))})
    limit = config.eval_max_seconds
    changes = {
        "agent": agent,
        "run_dir": folder,
        "fallback_dir": None,
        "eval_freq": 0,
        "n_eval_episodes": 0,  # at the end; the timer plays some
        "save_freq": 0,
        "video_freq": 0,
        "eval_max_seconds": seconds if limit is None else min(limit, seconds),
        "stop_at_reward": None,
        "max_cost": None,
        "cost": CostConfig(energy=config.cost.energy),
        "trackers": [name for name in config.trackers if name in TRACKERS],
    }
    return config.model_copy(update=changes)


def _read(timer: Timer, result: RunResult, trainer: Trainer, began: float) -> Trial:
    marks = timer.measured()
    speeds = [_speed(*each) for each in pairwise(_cut(marks))]
    took = marks[-1][0] - marks[0][0]
    first = timer.marks[0]
    each = took / max(len(marks) - 1, 1)
    agent, cost = trainer.agent, result.cost
    memory = getattr(agent, "memory", lambda: 0)()
    device = trainer.env.device
    return Trial(
        steps_per_second=_speed(marks[0], marks[-1]),
        slowest=min(speeds),
        fastest=max(speeds),
        updates=len(marks) - 1,
        left_out=timer.marks.index(marks[0]) + 1,
        seconds=took,
        steps_per_update=trainer.steps_at_once,
        startup_seconds=max(0.0, first[0] - began - first[2] - each),
        compile_seconds=timer.marks[-1][2],
        save_seconds=trainer.pauses.seconds.get("save", 0.0),
        evaluation_seconds=timer.evaluation,
        memory_bytes=timer.memory + (memory if device.type == "cpu" else 0),
        accelerator_bytes=_on_accelerator(device, memory),
        kwh=cost["energy_kwh"] / cost["seconds"] * HOUR if cost["energy_from"] else None,
        device=str(device),
    )


def _cut(marks: list[tuple[float, int, float]]) -> list[tuple[float, int, float]]:
    """Marks that cut the time into parts of about the same length; all of them if there are few."""
    number = min(PARTS, len(marks) - 1)
    return [marks[math.floor(i * (len(marks) - 1) / number)] for i in range(number + 1)]


def _speed(start: tuple[float, int, float], end: tuple[float, int, float]) -> float:
    return (end[1] - start[1]) / max(end[0] - start[0], 1e-9)


def _on_accelerator(device: torch.device, memory: int) -> int | None:
    if device.type != "cuda":
        return None
    return int(torch.cuda.max_memory_allocated(device)) + memory
