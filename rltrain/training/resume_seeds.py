"""Continues runs that were trained as one batch, together and from the same step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rltrain.callbacks import Callback
from rltrain.config import TrainConfig
from rltrain.env import EnvClass
from rltrain.errors import CheckpointError, ConfigError, RLTrainError
from rltrain.naming.arguments import typed
from rltrain.process.memory import keep_memory
from rltrain.rng import turns
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, step_of
from rltrain.runs.verify import find_fault
from rltrain.training.batch_record import batch_at, newest_record
from rltrain.training.launch import is_over, over, reopened, set_up_again
from rltrain.training.multi_seed import SeedRun, check_seeds, check_setups, display_of, results, train_together
from rltrain.training.own_draws import leave_if_possible
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult
from rltrain.training.setup import Setup, threads
from rltrain.training.signals import Interrupt


class Member(NamedTuple):
    """One of the runs, before it goes on."""

    folder: RunFolder
    config: TrainConfig
    metadata: dict[str, Any]


@typed("env", "trackers", "callbacks")
def resume_seeds(
    runs: Sequence[str | Path],
    *,
    total_timesteps: int | None = None,
    device: str | None = None,
    env: str | EnvClass | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    classes: Sequence[type] = (),
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    trackers: Sequence[str] | None = None,
) -> dict[int, RunResult | RLTrainError]:
    """Continues runs that differ only in their seeds as one batch, from the newest step that all have saved.

    With all the runs of a :func:`~rltrain.train_seeds` this is bit for bit as if they had never stopped. Those that are
    over stay as they are.

    Args:
        runs: The run folders.
        total_timesteps: See :func:`rltrain.resume`, as for all that follow.
        device: The same.
        env: The same.
        env_kwargs: The same.
        classes: The same.
        progress: The same.
        callbacks: The same.
        trackers: The same.

    Returns:
        The result or error of each seed that went on; if one fails, the others go on.

    Raises:
        CheckpointError: There is no step to continue all of them from, or a checkpoint does not fit.
        ConfigError: The runs are over, or cannot be trained as one batch.
        RunError: Another process holds one of the runs, or all of them failed at once.
    """
    if not runs:
        raise ConfigError("runs=[] names no run.", "Name the run folders of the seeds.")
    members = []
    for run in runs:
        folder, named, config, env = reopened(run, env, env_kwargs, classes, trackers, {"device": device})
        if named is not None:
            raise ConfigError(f"'{run}' is a checkpoint, and there are several runs.", "Name run folders.")
        members.append(Member(folder, config, {}))
    check_alike(members)
    config = members[0].config
    env_class = None if isinstance(env, str) else env
    request = RunRequest(
        config, env_class, callbacks, progress, total_timesteps=total_timesteps, num_seeds=len(members)
    )
    check_seeds(request)
    keep_memory()
    with turns.joined(), threads(config.num_threads), ExitStack() as stack, Interrupt() as interrupted:
        for number, member in enumerate(members):
            member.folder.lock()
            stack.callback(member.folder.release)
            members[number] = member._replace(metadata=member.folder.metadata())
        batch, ending, step = starting(members, request)
        setups: list[Setup] = []
        seeds = [member.config.seed for member in batch]
        for member in (members := [*batch, *ending]):
            checkpoint, _ = member.folder.checkpoint(step)
            with warnings.catch_warnings():
                if setups:
                    warnings.simplefilter("ignore")  # the same as for the first
                one = replace(request, config=member.config, progress=False)
                setup = set_up_again(one, member.folder, member.metadata, checkpoint, seeds=seeds)
                setups.append(stack.enter_context(closing(setup)))
        check_setups(setups)
        going: list[SeedRun] = []
        for setup, member in zip(setups, members, strict=True):
            going.append(SeedRun(setup, member.folder, interrupted))
            stack.push(going[-1].stack)
        leave_if_possible(*setups)
        train_together(going, stack.enter_context(closing(display_of(going, request))))
    return results(going)


def check_alike(members: Sequence[Member]) -> None:
    """Checks that runs differ only in their seeds.

    Raises:
        ConfigError: They do not.
    """
    settings = [member.config.model_dump(mode="json", exclude={"seed"}) for member in members]
    for member, own in zip(members, settings, strict=True):
        if own != settings[0]:
            names = ", ".join(sorted(name for name in own if own[name] != settings[0].get(name)))
            raise ConfigError(
                f"'{member.folder.path}' and '{members[0].folder.path}' differ in more than the seed: {names}.",
                "Resume each by itself.",
            )
    seeds = [member.config.seed for member in members]
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ConfigError(f"Two of the runs have the seed {twice}.", "Name every run once.")


def starting(members: Sequence[Member], request: RunRequest) -> tuple[list[Member], list[Member], int]:
    """The runs that go on, those that only have to be concluded, and the newest step from which all of them can.

    A run goes on if it was in the batch at that step and is not over.

    Raises:
        CheckpointError: There is no such step.
        ConfigError: All runs are over.
    """
    saved = {member.config.seed: whole_steps(member.folder) for member in members}
    by_seed = {member.config.seed: member for member in sorted(members, key=lambda member: member.config.seed)}
    going = {
        seed: member
        for seed, member in by_seed.items()
        if not is_over(request, member.metadata, max(saved[seed], default=-1))
    }
    if not going:
        raise over(members[0].folder, max(saved[members[0].config.seed]))
    records = max((member.metadata for member in going.values()), key=newest_record)
    for step in sorted(set().union(*(saved[seed] for seed in going)), reverse=True):
        batch = batch_at(records, step)
        together = [seed for seed in going if not batch or seed in batch]
        if together and all(step in saved[seed] for seed in together):
            left = [seed for seed in going if seed not in together]
            ending = [s for s in left if step in saved[s] and going[s].metadata.get("status") != "failed"]
            for seed in left:
                if seed not in ending:
                    path = going[seed].folder.path
                    warnings.warn(f"'{path}' had left the batch by step {step:,} and stays as it is.", stacklevel=2)
            return [going[seed] for seed in together], [going[seed] for seed in ending], step
    raise CheckpointError(
        f"There is no step at which all of the {len(going)} runs have a whole checkpoint.", "Resume each by itself."
    )


def whole_steps(folder: RunFolder) -> set[int]:
    """The steps of the checkpoints that are whole."""
    faults = {path: find_fault(path) for path in list_checkpoints(folder.checkpoints)}
    for path, fault in faults.items():
        if fault is not None:
            warnings.warn(f"The checkpoint '{path}' is damaged and was passed over: {fault}.", stacklevel=2)
    return {step_of(path) for path, fault in faults.items() if fault is None}
