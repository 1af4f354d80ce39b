"""Many seeds at once: runs like any other, whose environments are stepped and whose agents learn as one batch."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from numbers import Integral
from statistics import fmean
from typing import Any

from rltrain.agent import Agent, Metrics, StackedAgent, next_state
from rltrain.callbacks import Callback
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, RLTrainError
from rltrain.joined_vec import JoinedVecEnv
from rltrain.registry import AgentSpec, agent_spec, resolve
from rltrain.rng import global_kept
from rltrain.runs.folder import RunFolder
from rltrain.settings import build_config
from rltrain.trackers.console import SHOWN, ConsoleTracker
from rltrain.training.callback_list import CallbackList
from rltrain.training.launch import as_typed
from rltrain.training.metrics import EpisodeStats
from rltrain.training.session import RunResult, conclude, session
from rltrain.training.setup import Job, check_memory, create_folder, keep_memory, threads
from rltrain.training.signals import Interrupt
from rltrain.training.trainer import Trainer
from rltrain.tree import tree_cat, tree_map
from rltrain.vec import TensorVecEnv


def train_seeds(
    algo: str,
    env: str | type,
    num_seeds: int,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> dict[int, RunResult | RLTrainError]:
    """Trains an agent with so many seeds at once, from ``seed`` on; each is a run of its own.

    Args:
        algo: ``ppo``.
        env: An id of ours, or a :class:`~rltrain.env.TensorEnv` class.
        num_seeds: K.
        progress: Whether to show progress.
        callbacks: Code of your own that looks on, at each of the runs.
        **overrides: As for :func:`rltrain.train`.

    Returns:
        By seed, how it ended: if one fails, the others go on.

    Raises:
        ConfigError: Something in the arguments is wrong, or cannot be trained like this; nothing was created.
        CheckpointError: ``init_from`` cannot be used.
        RunError: All of them failed at once.
    """
    config, _ = build_config(algo, env, as_typed(overrides))
    env_class = None if isinstance(env, str) else env
    return start_seeds(config, num_seeds, env_class=env_class, progress=progress, callbacks=callbacks)


def start_seeds(
    config: TrainConfig,
    num_seeds: int,
    *,
    env_class: type | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> dict[int, RunResult | RLTrainError]:
    """Starts new runs from a configuration; see :func:`train_seeds`."""
    seeds = check_seeds(config, num_seeds)
    keep_memory()
    with threads(config.num_threads), ExitStack() as stack, Interrupt() as interrupted:
        jobs: list[Job] = []
        for seed in seeds:
            with warnings.catch_warnings():
                if jobs:
                    warnings.simplefilter("ignore")  # the same as for the first
                job = Job.build(config.model_copy(update={"seed": seed}), env_class)
                jobs.append(stack.enter_context(closing(job)))
                if config.init_from is not None:
                    job.init_from(config.init_from)
        check_jobs(jobs)
        runs: list[SeedRun] = []
        for job in jobs:
            runs.append(SeedRun(job, create_folder(job, together=num_seeds), CallbackList(callbacks), interrupted))
            stack.push(runs[-1].stack)
        console = None
        if progress:
            title = f"{config.algo} on {config.env.id}, seeds {seeds[0]} to {seeds[-1]}"
            with global_kept():  # some libraries draw when they are imported
                console = ConsoleTracker(num_seeds * config.total_timesteps, title=title)
            stack.callback(console.close)
        train_together(runs, interrupted, console)
    return {run.job.config.seed: run.result for run in runs if run.result is not None}


def check_seeds(config: TrainConfig, num_seeds: int) -> range:
    """The seeds.

    Raises:
        ConfigError: There are no such, or the agent has a loop of its own.
    """
    if isinstance(num_seeds, bool) or not isinstance(num_seeds, Integral) or num_seeds < 1:
        raise ConfigError(f"num_seeds={num_seeds!r} is out of range.", "It must be a whole number of at least 1.")
    if config.seed + num_seeds > 2**63:
        raise ConfigError(f"There are no {num_seeds} seeds from {config.seed} on.", "Give a smaller --seed.")
    if config.nproc != 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ConfigError("One process trains several seeds.", "Leave --nproc and torchrun out, or --num-seeds.")
    if config.compile:
        raise ConfigError("What trains several seeds is not compiled.", "Leave --compile out, or --num-seeds.")
    if agent_spec(config.algo).trainer != AgentSpec.trainer:
        raise ConfigError(
            f"'{config.algo}' cannot train several seeds at once.", "Train ppo or pqn, or start a run for each seed."
        )
    return range(config.seed, config.seed + num_seeds)


def check_jobs(jobs: Sequence[Job]) -> None:
    """Holds jobs to what can be trained as one.

    Raises:
        ConfigError: Their environments or networks cannot be.
    """
    first = jobs[0]
    if type(first.env) is not TensorVecEnv:
        kind = "with such options around it" if hasattr(first.env, "vec") else "which is no environment of tensors"
        raise ConfigError(
            f"'{first.config.env.id}', {kind}, cannot be trained with several seeds at once.",
            "Start a run for each seed, or take an environment that 'rltrain envs' lists, as it is.",
        )
    stack(first.config.algo, [job.agent for job in jobs])
    check_memory(sum(job.agent.memory() for job in jobs), first.device)


def stack(algo: str, agents: Sequence[Agent]) -> StackedAgent:
    """Several agents, alike but for their seeds, as one that acts and learns for all of them.

    They stay whole: what it learns is theirs, at the end of each ``learn``.

    Raises:
        ConfigError: They cannot be.
    """
    stacked = agent_spec(algo).stacked
    if not stacked:
        raise ConfigError(
            f"'{algo}' cannot train several seeds at once.", "Train ppo or pqn, or start a run for each seed."
        )
    return resolve(stacked)(agents)


class SeedRun:
    """One of the runs.

    Args:
        job: What it is made of.
        folder: Its folder.
        callbacks: Code of the user's own.
        interrupted: Whether there was a signal.

    Attributes:
        stack: What is to be left when it has ended.
        result: How it ended, once it has.
    """

    def __init__(self, job: Job, folder: RunFolder, callbacks: CallbackList, interrupted: Interrupt) -> None:
        self.job = job
        self.interrupted = interrupted
        self.stack = ExitStack()
        self.trainer: Trainer = self.stack.enter_context(
            session(job, folder, job.config.total_timesteps, None, callbacks, interrupted)
        )
        self.result: RunResult | RLTrainError | None = None

    def attempt(self, what: Callable[..., None], *arguments: Any) -> None:
        """Does what is this run's own business. Where that fails, it has failed, and the others have not."""
        try:
            what(*arguments)
        except RLTrainError as error:
            warnings.warn(f"Seed {self.job.config.seed} failed, the others go on. {error}", stacklevel=2)
            self.result = error
            with suppress(RLTrainError), self.stack:
                raise

    def end(self, reason: str) -> None:
        """Saves, evaluates, draws."""
        self.trainer.end(reason)
        self.result = conclude(self.job, self.trainer, reason, self.interrupted.signal)
        self.stack.close()


def train_together(runs: Sequence[SeedRun], interrupted: Interrupt, console: ConsoleTracker | None) -> None:
    """Trains until every run has ended; those that end early leave the batch, which gets smaller."""
    for run in runs:
        run.trainer.begin()
    going = list(runs)
    while going:
        batch = Batch([run.trainer for run in going])
        ended = False
        while not ended:
            for run, metrics in zip(going, batch.iterate(), strict=True):
                run.attempt(run.trainer.learned, metrics)
            if console is not None:
                show(console, runs, going)
            reasons = [run.trainer.reason_to_stop() for run in going]
            ended = any(reasons) or any(run.result is not None for run in going)
        for run, reason in zip(going, reasons, strict=True):
            if reason is not None and run.result is None:
                run.attempt(run.end, reason)
        going = [run for run in going if run.result is None]


def show(console: ConsoleTracker, runs: Sequence[SeedRun], going: Sequence[SeedRun]) -> None:
    """Shows the steps of all runs, and the means over those that go on."""
    means = {}
    for tag in SHOWN:
        known = [run.trainer.latest[tag] for run in going if tag in run.trainer.latest]
        if known:
            means[tag] = fmean(known)
    console.log(sum(run.trainer.global_step for run in runs), means)


class Batch:
    """Trainers whose agents act and learn, and whose environments are stepped, as one.

    After every iteration each has what it would have alone.

    Args:
        trainers: Alike but for their seeds, between two iterations, as many of them done.
    """

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        self.horizon = trainers[0].agent.horizon
        self.agent = stack(trainers[0].config.algo, [trainer.agent for trainer in trainers])
        envs = [trainer.env for trainer in trainers]
        self.env = JoinedVecEnv([env for env in envs if isinstance(env, TensorVecEnv)])
        self.obs = tree_cat([trainer.obs for trainer in trainers])
        self.state = tree_cat([trainer.state for trainer in trainers])
        self.episodes = EpisodeStats(1, self.horizon, self.env.num_envs, self.env.device)

    def iterate(self) -> list[Metrics]:
        """Collects and learns; gives the metrics of each."""
        self.agent.progress_remaining = self.trainers[0].progress_remaining
        initial = tree_cat([trainer.agent.actor.initial_state(trainer.env.num_envs) for trainer in self.trainers])
        for _ in range(self.horizon):
            out = self.agent.act(self.obs, self.state)
            step = self.env.step(out.action)
            self.agent.record(out, step)
            self.episodes.note(step)
            self.obs, self.state = step.obs, next_state(out, step, initial)
        self.env.split()
        for trainer, rows in zip(self.trainers, self.env.rows, strict=True):
            trainer.obs, trainer.state = (tree_map(lambda x, rows=rows: x[rows], x) for x in (self.obs, self.state))
            trainer.episodes.merge_from(self.episodes, rows)
            trainer.collected()
            trainer.callbacks.rollout(trainer)
        self.episodes.forget()
        return self.agent.learn_each()
