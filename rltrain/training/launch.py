"""Starts and resumes runs, for ``rltrain train`` and ``rltrain resume``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rltrain.callbacks import Callback
from rltrain.config import TrainConfig
from rltrain.cost.meter import check_spent
from rltrain.distributed.group import joined
from rltrain.distributed.ranks import ALONE, Ranks
from rltrain.env import EnvClass
from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import taken_apart
from rltrain.naming.arguments import typed
from rltrain.process.memory import keep_memory
from rltrain.process.stopping import Stopped
from rltrain.rng import turns
from rltrain.runs.environment import check_known, given_again, named_env, origin_in
from rltrain.runs.find import read_best
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import step_of
from rltrain.runs.machine import changed_since
from rltrain.runs.metadata import BATCHES
from rltrain.runs.places import find_unfinished
from rltrain.schedules import LINEAR
from rltrain.settings import build_config, merge, with_trackers
from rltrain.training.batch_record import apart, batch_at, with_batch
from rltrain.training.datasets import check_same_data
from rltrain.training.learned_reward import check_same_reward, with_fixed_model
from rltrain.training.own_draws import leave_if_possible
from rltrain.training.request import RunRequest
from rltrain.training.session import RunResult, conclude, session
from rltrain.training.setup import AT_ONCE, Setup, create_folder, threads
from rltrain.training.signals import Interrupt
from rltrain.training.transfer import start_from
from rltrain.vec import check_count


@typed("algo", "env", "callbacks")
def train(
    algo: str,
    env: str | EnvClass,
    *,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **overrides: Any,
) -> RunResult:
    """Trains an agent and evaluates it.

    Args:
        algo: Name of a registered agent, such as ``ppo``.
        env: An id of rltrain or Gymnasium, also as ``module:Id``; a class, a :class:`~rltrain.env.TensorEnv` or a
            ``gymnasium.Env``; a function that makes one; or an environment that ``gymnasium.make`` made, whose like
            are made.
        progress: Whether to show progress. If not, the trackers that show it are left out.
        callbacks: Your own code that is called during training.
        **overrides: Options by the names of the command line: ``total_timesteps=100_000``,
            ``agent={"learning_rate": "lin_0.001"}``, ``env_kwargs={"gravity": 1.6}``; options that begin with
            ``--env.`` go into ``env_options={"frame_stack": 4}``.

    Raises:
        ConfigError: Something in the arguments is wrong; nothing was created.
        CheckpointError: ``init_from`` cannot be used.
        RunError: The run failed.
    """
    env, taken = taken_apart(env)
    config, _ = build_config(algo, env, merge({"env": taken} if taken else {}, as_typed(overrides)))
    return start(RunRequest(config, None if isinstance(env, str) else env, callbacks, progress))


def as_typed(overrides: dict[str, Any]) -> dict[str, Any]:
    """The overrides of :func:`train` in the shape of the configuration.

    Raises:
        ConfigError: Those of the environment are no dict.
    """
    given = dict(overrides)
    for name in ("env_kwargs", "env_options"):
        if not isinstance(given.get(name, {}), Mapping):
            raise ConfigError(f"{name}={given[name]!r} does not fit.", f"Give a dict: {name}={{name: value}}.")
    env_options = {"kwargs": given.pop("env_kwargs", {}), **given.pop("env_options", {})}
    if env_options != {"kwargs": {}}:
        given["env"] = env_options
    return {name: str(value) if isinstance(value, Path | torch.device) else value for name, value in given.items()}


def start(request: RunRequest) -> RunResult:
    """Starts a new run; see :func:`train` for what it raises.

    Under ``torchrun``, a job that was started again continues the run that it began.
    """
    request = with_fixed_model(request)
    config = request.config
    with turns.joined(), joined(config.nproc, request.command) as ranks, threads(ranks.threads(config.num_threads)):
        begun = ranks.broadcast_object(str(find_unfinished(config) or "") if ranks.first else None)
        if begun:
            return _resume(request, RunFolder(Path(begun), writes=ranks.first), ranks)
        with closing(Setup.build(request, ranks)) as setup:
            start_from(setup.agent, config)
            ranks.broadcast(setup.agent.state_dict().values())
            return _run(setup)


@typed("run", "env", "total_timesteps", "nproc", "device", "trackers", "callbacks")
def resume(
    run: str | Path,
    *,
    total_timesteps: int | None = None,
    device: str | None = None,
    env: str | EnvClass | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    classes: Sequence[type] = (),
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    trackers: Sequence[str] | None = None,
    nproc: int | None = None,
    max_cost: float | None = None,
    command: Sequence[str] | None = None,
) -> RunResult:
    """Continues a run from its newest whole checkpoint, bit for bit as if it had never stopped.

    Args:
        run: A run folder, or a checkpoint directory in it to continue from; later ones are set aside.
        total_timesteps: Environment steps to stop at; by default, those of the configuration. If it is given,
            ``stop_at_reward`` is ignored. Schedules keep their original horizon and hold their final value beyond it.
        device: The device to continue on, if not that of the run; on another one it is not bit for bit the same.
        env: The environment that it was trained in, if the id in the folder is not registered: ``module:Id``, which is
            imported, or the class.
        env_kwargs: Constructor arguments of the environment that the folder could not hold.
        classes: Your own network classes that it was trained with: the folder holds only their names.
        progress: Whether to show progress.
        callbacks: Your own code that is called during training.
        trackers: The trackers to use, if not those of the run.
        nproc: Processes on this machine that train together, if not the number of the run.
        max_cost: What the run may cost over all sessions, if not what its configuration says.
        command: The arguments of ``rltrain`` that further ranks are started with.

    Raises:
        CheckpointError: There is nothing to continue from, or it does not fit.
        ConfigError: The run is over, or has already been trained for ``total_timesteps``; or there is no such tracker.
        RunError: Another process holds the run, or the run failed.
    """
    for name, number in (("total_timesteps", total_timesteps), ("nproc", nproc)):
        if number is not None:
            check_count(name, number)
    if max_cost is not None and not (isinstance(max_cost, int | float) and max_cost > 0):
        raise ConfigError(f"max_cost={max_cost!r} is no amount of money.", "Give a number above 0.")
    changes = {"device": device, "nproc": nproc, "max_cost": max_cost}
    folder, named, config, env = reopened(run, env, env_kwargs, classes, trackers, changes)
    env_class = None if isinstance(env, str) else env
    request = RunRequest(config, env_class, callbacks, progress, command, total_timesteps, named)
    if config.nproc > 1:  # before so many processes are started
        _check_ranks(folder, folder.metadata(), config.nproc)
    with turns.joined(), joined(config.nproc, command) as ranks, threads(ranks.threads(config.num_threads)):
        folder.writes = ranks.first
        return _resume(request, folder, ranks)


def reopened(
    run: str | Path,
    env: str | EnvClass | None,
    env_kwargs: Mapping[str, Any] | None,
    classes: Sequence[type],
    trackers: Sequence[str] | None,
    changes: Mapping[str, Any],
) -> tuple[RunFolder, Path | None, TrainConfig, str | EnvClass]:
    """A run that is to go on; see :func:`resume` for the arguments.

    Args:
        run: The run.
        env: Its environment.
        env_kwargs: Constructor arguments.
        classes: Network classes.
        trackers: The trackers.
        changes: Further settings to change, by name; None leaves one as it is.

    Returns:
        Its folder; the checkpoint, if ``run`` is one; the configuration to go on with; and the environment.

    Raises:
        CheckpointError: There is no such run.
        ConfigError: What is given does not fit it.
    """
    folder, named = RunFolder.open(run)
    config = given_again(folder.config(classes), env_kwargs, only_lost=True)
    env = named_env(folder, config.env.id, env)
    check_known(env, origin_in(folder))
    config = config.model_copy(update={name: value for name, value in changes.items() if value is not None})
    return folder, named, config if trackers is None else with_trackers(config, trackers), env


def _check_ranks(folder: RunFolder, metadata: Mapping[str, Any], world_size: int) -> None:
    if (size := metadata["mode"].get("ranks", 1)) != world_size:
        raise CheckpointError(
            f"'{folder.path}' was trained by {size} ranks, and here there are {world_size}.",
            f"Give --nproc {size}, or start {size} by torchrun.",
        )


def _resume(request: RunRequest, folder: RunFolder, ranks: Ranks) -> RunResult:
    metadata = ranks.broadcast_object(folder.metadata() if ranks.first else None)
    _check_ranks(folder, metadata, ranks.world_size)
    folder.lock()
    with ExitStack() as stack:
        stack.callback(folder.release)
        checkpoint = request.checkpoint or Path()
        if ranks.first:
            checkpoint, faults = folder.checkpoint(request.checkpoint or "latest")
            for fault in faults:
                warnings.warn(fault, stacklevel=2)
            try:
                read_best(folder.checkpoints)
            except CheckpointError as error:
                warnings.warn(f"{error.cause} It is written anew.", stacklevel=2)
        checkpoint = folder.checkpoints / ranks.broadcast_object(checkpoint.name)
        check_spent(metadata.get("cost") or {}, request.config.max_cost, folder.path)
        if is_over(request, metadata, step_of(checkpoint)):
            raise over(folder, step_of(checkpoint))
        return _run(stack.enter_context(closing(set_up_again(request, folder, metadata, checkpoint, ranks))), folder)


def is_over(request: RunRequest, metadata: Mapping[str, Any], step: int) -> bool:
    """Whether there is nothing to do for a request to continue a run from a step."""
    if request.total_timesteps is None and metadata.get("stopped_by") == "max_cost":
        return bool(step >= metadata.get("total_timesteps", 0))
    if request.total_timesteps is None:
        return bool(metadata.get("status") == "completed" and step >= metadata.get("steps", 0))
    return request.total_timesteps <= step


def over(folder: RunFolder, step: int) -> ConfigError:
    """The error for a run that is over."""
    return ConfigError(
        f"'{folder.path}' has already been trained for {step:,} steps.",
        f"Give --total-timesteps more than {step} to train on.",
    )


def set_up_again(
    request: RunRequest,
    folder: RunFolder,
    metadata: Mapping[str, Any],
    checkpoint: Path,
    ranks: Ranks = ALONE,
    seeds: Sequence[int] = (),
) -> Setup:
    """The setup of a run that continues from a checkpoint, after a warning of all that makes it inexact.

    Args:
        request: The request to continue it.
        folder: The folder of the run, locked.
        metadata: What is recorded there.
        checkpoint: The checkpoint.
        ranks: The ranks that train it.
        seeds: The seeds that are trained as one batch with it, its own among them; none if it is trained alone.

    Raises:
        CheckpointError: The environment is not what it was.
        ConfigError: Something that the run needs does not exist any more.
    """
    step, config = step_of(checkpoint), request.config
    if request.total_timesteps is None:
        total, stop_at_reward = int(metadata["total_timesteps"]), metadata.get("stop_at_reward")
    else:
        total, stop_at_reward = request.total_timesteps, None
    if total > config.total_timesteps and LINEAR in config.agent.model_dump_json():
        warnings.warn(
            f"Linear schedules ended at {config.total_timesteps:,} steps and stay at 0; "
            "with such a learning rate the policy does not change any more.",
            stacklevel=2,
        )
    check_same_data(config, metadata, folder.path)
    check_same_reward(config, metadata, folder.path)
    config = config.model_copy(update={"stop_at_reward": stop_at_reward})
    request = replace(request, config=config, total_timesteps=total, checkpoint=checkpoint)
    with ExitStack() as if_it_fails:
        setup = if_it_fails.enter_context(closing(Setup.build(request, ranks)))
        batches = metadata.get(BATCHES)
        mode = {name: value for name, value in metadata["mode"].items() if name != AT_ONCE or batches is None}
        if changed := changed_since(metadata, mode, setup.mode):
            warnings.warn(f"Not bit for bit: {'; '.join(changed)}.", stacklevel=2)
        if (batch := batch_at(metadata, step)) != list(seeds):
            warnings.warn(apart(batch, seeds or [config.seed]), stacklevel=2)
        if any(metadata[name] != space for name, space in setup.spaces.items()):
            raise CheckpointError(
                f"'{config.env.id}' now has other spaces than '{folder.path}' was trained with.",
                "Go back to the environment as it was.",
            )
        restarted = metadata.get("episodes_restarted_at", [])
        if not setup.exact_data:
            warnings.warn(
                f"The episodes of '{config.env.id}' start anew: its state cannot be saved. All else goes on exactly.",
                stacklevel=2,
            )
            restarted = [*restarted, step]
        folder.update_metadata(
            {
                "total_timesteps": total,
                "stop_at_reward": stop_at_reward,
                "resumed_at": [*metadata.get("resumed_at", []), step],
                "episodes_restarted_at": restarted,
                **({} if batches is None and not seeds else {BATCHES: with_batch(batches or [], step, seeds)}),
            }
        )
        if_it_fails.pop_all()
    return setup


def _run(setup: Setup, folder: RunFolder | None = None) -> RunResult:
    """Trains from the start, in a new folder, or from a checkpoint; evaluates, draws."""
    keep_memory()
    with Interrupt() as interrupted, session(setup, folder or create_folder(setup), interrupted) as trainer:
        leave_if_possible(setup)
        try:
            stopped_by = trainer.run()
        except Stopped:  # an environment did not answer: the last checkpoint stands
            stopped_by = "interrupted"
        return conclude(trainer, stopped_by)
