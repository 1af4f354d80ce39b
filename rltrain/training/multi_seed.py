"""Trains many seeds at once: separate runs whose environments are stepped and whose agents learn as one batch.

How numbers are rounded depends on what is in the batch. So the metadata of each run records which seeds were trained
together from which step on, the batch is made anew wherever a checkpoint was written, as it is after a resume, and
every run keeps the newest checkpoint whose step all of them have.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from numbers import Integral
from statistics import fmean
from typing import Any

from rltrain.callbacks import Callback
from rltrain.env import EnvClass
from rltrain.errors import ConfigError, RLTrainError
from rltrain.make import taken_apart
from rltrain.naming.arguments import typed
from rltrain.process.memory import keep_memory
from rltrain.registry import AgentSpec
from rltrain.rng import turns
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of
from rltrain.settings import build_config, merge
from rltrain.tracker import RunInfo, Tracker
from rltrain.training.advice import check_memory
from rltrain.training.batch import Batch, stack
from rltrain.training.batch_record import note_batch
from rltrain.training.launch import as_typed
from rltrain.training.own_draws import leave_if_possible
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult, conclude, session
from rltrain.training.setup import Setup, create_folder, threads
from rltrain.training.signals import Interrupt
from rltrain.training.tracker_list import TrackerList, displays
from rltrain.training.trainer import Trainer
from rltrain.training.transfer import start_from
from rltrain.vec import TensorVecEnv

MOST_SEEDS = 4096
"""The most runs that train at once; each has a folder and open files of its own."""


@typed("algo", "env", "num_seeds", "callbacks")
def train_seeds(
    algo: str,
    env: str | EnvClass,
    num_seeds: int,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> dict[int, RunResult | RLTrainError]:
    """Trains an agent with ``num_seeds`` seeds at once, from ``seed`` on; each is a separate run.

    Args:
        algo: ``ppo``.
        env: An id of ours, or a :class:`~rltrain.env.TensorEnv` class.
        num_seeds: Number of seeds.
        progress: Whether to show progress.
        callbacks: Your own code that is called during training, in each of the runs.
        **overrides: As for :func:`rltrain.train`.

    Returns:
        The result or error of each seed; if one fails, the others go on.

    Raises:
        ConfigError: Something in the arguments is wrong, or cannot be trained like this; nothing was created.
        CheckpointError: ``init_from`` cannot be used.
        RunError: All of them failed at once.
    """
    env, taken = taken_apart(env)
    config, _ = build_config(algo, env, merge({"env": taken} if taken else {}, as_typed(overrides)))
    env_class = None if isinstance(env, str) else env
    return start_seeds(RunRequest(config, env_class, callbacks, progress, num_seeds=num_seeds))


def start_seeds(request: RunRequest) -> dict[int, RunResult | RLTrainError]:
    """Starts ``request.num_seeds`` new runs; see :func:`train_seeds`."""
    config, seeds = request.config, check_seeds(request)
    keep_memory()
    with turns.joined(), threads(config.num_threads), ExitStack() as stack, Interrupt() as interrupted:
        setups: list[Setup] = []
        for seed in seeds:
            with warnings.catch_warnings():
                if setups:
                    warnings.simplefilter("ignore")  # the same as for the first
                one = replace(request, config=config.model_copy(update={"seed": seed}), progress=False)
                setups.append(stack.enter_context(closing(Setup.build(one))))
                start_from(setups[-1].agent, config)
        check_setups(setups)
        runs: list[SeedRun] = []
        for setup in setups:
            runs.append(SeedRun(setup, create_folder(setup), interrupted))
            stack.push(runs[-1].stack)
        note_batch([run.trainer for run in runs])
        leave_if_possible(*setups)
        train_together(runs, stack.enter_context(closing(display_of(runs, request))))
    return results(runs)


def display_of(runs: Sequence[SeedRun], request: RunRequest) -> TrackerList:
    """Shows the progress of all runs together."""
    config, seeds = request.config, [run.setup.config.seed for run in runs]
    title = f"{config.algo} on {config.env.id}, seeds {seeds[0]} to {seeds[-1]}"
    total = sum(run.setup.request.total for run in runs)
    shown = {"log_format": config.log_format}
    info = RunInfo(runs[0].trainer.folder.path.parent, total, title=title, config=shown)
    return TrackerList(info, displays(config.trackers) if request.progress else ())


def results(runs: Sequence[SeedRun]) -> dict[int, RunResult | RLTrainError]:
    """The results or errors of runs that have ended, by seed."""
    return {run.setup.config.seed: run.result for run in runs if run.result is not None}


def check_seeds(request: RunRequest) -> range:
    """Returns the seeds.

    Raises:
        ConfigError: They are not valid, or the agent cannot be stacked or has its own training loop.
    """
    config, num_seeds = request.config, request.num_seeds
    if isinstance(num_seeds, bool) or not isinstance(num_seeds, Integral) or not 1 <= num_seeds <= MOST_SEEDS:
        raise ConfigError(
            f"num_seeds={num_seeds!r} is out of range.", f"It must be a whole number from 1 to {MOST_SEEDS:,}."
        )
    if config.seed + num_seeds > 2**63:
        raise ConfigError(f"There are no {num_seeds} seeds from {config.seed} on.", "Give a smaller --seed.")
    if config.nproc != 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError("One process trains several seeds.", "Leave --nproc and torchrun out, or --num-seeds.")
    if config.compile:
        raise ConfigError("What trains several seeds is not compiled.", "Leave --compile out, or --num-seeds.")
    if request.agent.trainer != AgentSpec.trainer or not request.agent.stacked:
        raise ConfigError(
            f"'{config.algo}' cannot train several seeds at once.", "Train ppo or pqn, or start a run for each seed."
        )
    return range(config.seed, config.seed + num_seeds)


def check_setups(setups: Sequence[Setup]) -> None:
    """Checks that runs can be trained as one batch.

    Raises:
        ConfigError: Their environments or networks do not allow it.
    """
    first = setups[0]
    if type(first.env) is not TensorVecEnv:
        kind = "with such options around it" if hasattr(first.env, "vec") else "which is no environment of tensors"
        raise ConfigError(
            f"'{first.config.env.id}', {kind}, cannot be trained with several seeds at once.",
            "Start a run for each seed, or take an environment that 'rltrain envs' lists, as it is.",
        )
    stack(first.request.agent, [setup.agent for setup in setups])  # raises if their networks differ in kind
    check_memory(sum(setup.agent.memory() for setup in setups), first.device)


class SeedRun:
    """One of the runs.

    Args:
        setup: Its setup.
        folder: Its folder.
        interrupted: See :class:`~rltrain.training.trainer.Trainer`.

    Attributes:
        stack: The context managers to exit when the run has ended.
        result: The result or error, once the run has ended.
    """

    def __init__(self, setup: Setup, folder: RunFolder, interrupted: Interrupt) -> None:
        self.setup = setup
        self.stack = ExitStack()
        self.trainer: Trainer = self.stack.enter_context(session(setup, folder, interrupted))
        self.result: RunResult | RLTrainError | None = None

    def attempt(self, what: Callable[..., None], *arguments: Any) -> None:
        """Calls ``what`` for this run. If that fails, this run has failed, and the others go on."""
        try:
            what(*arguments)
        except RLTrainError as error:
            warnings.warn(f"Seed {self.setup.config.seed} failed, the others go on. {error}", stacklevel=2)
            self.result = error
            with suppress(RLTrainError), self.stack:
                raise

    def conclude(self, reason: str) -> None:
        """Evaluates and draws."""
        self.result = conclude(self.trainer, reason)
        self.stack.close()


def train_together(runs: Sequence[SeedRun], display: Tracker) -> None:
    """Trains until every run has ended; runs that end early leave the batch."""
    for run in runs:
        run.trainer.pauses.share(runs[0].trainer.pauses)
        run.trainer.begin()
    going = stay(runs)
    while going:
        batch, saved = Batch([run.trainer for run in going]), False
        while not saved and not any(run.result or run.trainer.reason_to_stop() for run in going):
            for run, metrics in zip(going, batch.iterate(), strict=True):
                run.attempt(run.trainer.learned, metrics)
            show(display, runs, going)
            turns.pass_on()
            saved = any(run.trainer.saved_step == run.trainer.global_step for run in going)
        going = stay(going)


def stay(runs: Sequence[SeedRun]) -> list[SeedRun]:
    """Ends the runs that have a reason to stop, and returns those that go on.

    If any leave, the others save too: from that step on the batch is another one. All save before the first is
    concluded, so that at no moment a run is over whose step the others do not have.
    """
    reasons = [None if run.result else run.trainer.reason_to_stop() for run in runs]
    ending = [(run, reason) for run, reason in zip(runs, reasons, strict=True) if reason is not None]
    going = [run for run, reason in zip(runs, reasons, strict=True) if reason is None and run.result is None]
    for run, reason in ending:
        run.attempt(run.trainer.end, reason)
    if len(going) < len(runs):
        note_batch([run.trainer for run in going])
        for run in going:
            run.attempt(run.trainer.save)
    for run, reason in ending:
        if run.result is None:
            run.attempt(run.conclude, reason)
    if any(run.result for run in going):
        return stay(going)
    keep_common(going)
    return going


def keep_common(runs: Sequence[SeedRun]) -> None:
    """Lets every run keep its checkpoint of the newest step that all of them have."""
    saved = [{step_of(path) for path in list_checkpoints(run.trainer.folder.checkpoints)} for run in runs]
    common = max(set.intersection(*saved), default=None) if saved else None
    for run in runs:
        run.trainer.common_step = common
        run.trainer.prune(run.trainer.best_step)


def show(display: Tracker, runs: Sequence[SeedRun], going: Sequence[SeedRun]) -> None:
    """Shows the steps of all runs, and the means over those that go on."""
    latest = [run.trainer.latest for run in going]
    tags = dict.fromkeys(tag for metrics in latest for tag in metrics)
    means = {tag: fmean(metrics[tag] for metrics in latest if tag in metrics) for tag in tags}
    pauses = [run.trainer.pauses.metrics() for run in runs]  # each waits for those of all
    means |= {tag: sum(each.get(tag, 0.0) for each in pauses) for tag in {tag for each in pauses for tag in each}}
    display.log(means, sum(run.trainer.global_step for run in runs))
