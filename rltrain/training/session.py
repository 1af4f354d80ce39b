"""One session of a run: from the folder and its job to a trainer with trackers, and to how it ended."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.config import TrainConfig
from rltrain.errors import RLTrainError, RunError
from rltrain.evaluation.episodes import Evaluation
from rltrain.evaluation.plotting import plot_runs
from rltrain.registry import agent_spec, resolve, spec_of
from rltrain.runs.checkpoint import list_checkpoints, remove_unfinished, set_aside, step_of
from rltrain.runs.folder import RunFolder
from rltrain.tracker import RunInfo
from rltrain.training.callback_list import CallbackList
from rltrain.training.setup import Job
from rltrain.training.tracker_list import TrackerList, displays

if TYPE_CHECKING:
    from rltrain.training.trainer import Trainer


@dataclass(frozen=True)
class RunResult:
    """A run that has ended.

    Attributes:
        run_dir: The run folder.
        steps: Environment steps, over all environments.
        seconds: Time in the training loop, over all sessions.
        compile_seconds: Time of it that this session took to compile.
        stopped_by: ``total_timesteps``, ``stop_at_reward``, ``callback`` or ``interrupted``.
        signal: Number of the signal that interrupted it.
        evaluation: Fresh episodes of the final policy, unless interrupted or not wanted.
        picture: The learning curve, where there is one.
    """

    run_dir: Path
    steps: int
    seconds: float
    compile_seconds: float
    stopped_by: str
    signal: int | None
    evaluation: Evaluation | None
    picture: Path | None


def trainer_class(config: TrainConfig) -> type[Trainer]:
    """What runs the agent of a configuration."""
    return resolve(agent_spec(config.algo).trainer)


@contextmanager
def session(
    job: Job,
    folder: RunFolder,
    total: int,
    checkpoint: Path | None,
    callbacks: CallbackList,
    interrupted: Callable[[], bool],
    progress: bool = False,
) -> Iterator[Trainer]:
    """A trainer with its trackers, at the start or at a checkpoint; the metadata say that it runs, and if it fails."""
    config, first = job.config, job.ranks.first
    with ExitStack() as stack:
        stack.callback(folder.release)
        folder.update_metadata({"status": "running", "error": None})
        try:
            trainer = trainer_class(config)(
                config,
                job.agent,
                job.env,
                make_env=job.make_env,
                folder=folder,
                total_timesteps=total,
                interrupted=interrupted,
                callbacks=callbacks,
                ranks=job.ranks,
            )
            stack.callback(lambda: trainer.trackers.close())
            if checkpoint is not None:
                trainer.load(checkpoint)
            if checkpoint is not None and first:
                remove_unfinished(folder.checkpoints)
                set_aside(
                    [path for path in list_checkpoints(folder.checkpoints) if step_of(path) > step_of(checkpoint)]
                )
            info = RunInfo(
                folder.path,
                total,
                None if checkpoint is None else trainer.global_step,
                f"{config.algo} on {config.env.id}, seed {config.seed}",
                config.model_dump(mode="json"),
            )
            if first:
                shown = config.trackers if progress else set(config.trackers) - set(displays(config.trackers))
                trainer.trackers = TrackerList(info, [name for name in config.trackers if name in shown])
            yield trainer
        except BaseException as error:
            folder.update_metadata({"status": "failed", "error": f"{type(error).__name__}: {error}"})
            raise


def conclude(job: Job, trainer: Trainer, stopped_by: str, signal: int | None) -> RunResult:
    """Evaluates what was trained, draws its curve, and says in the metadata how it ended."""
    folder, first = trainer.folder, job.ranks.first
    evaluation = None
    if stopped_by != "interrupted" and job.config.n_eval_episodes and first:
        try:
            evaluation = trainer.evaluate_finally()
        except RunError as error:  # what was trained and saved is whole all the same
            warnings.warn(f"There is no score. {error}", stacklevel=2)
    status = "interrupted" if stopped_by == "interrupted" else "completed"
    outcome: dict[str, Any] = {
        "steps": trainer.global_step,
        "seconds": trainer.seconds,
        "compile_seconds": trainer.compile_seconds,
        "stopped_by": stopped_by,
    }
    summary = evaluation.summary() if evaluation else None
    folder.update_metadata({"status": status, **outcome, "evaluation": summary})
    picture = None
    if status == "completed" and "csv" in trainer.trackers:  # what curves are drawn from
        threshold = spec_of(job.env_source).reward_threshold
        try:
            picture = plot_runs([folder.path], None, threshold=threshold)
        except RLTrainError as error:
            warnings.warn(f"There is no picture. {error.cause}", stacklevel=2)
        else:
            trainer.trackers.artifact(picture, "learning_curve")
    trainer.trackers.finish(trainer.latest if status == "completed" else {})  # a run that goes on later has none yet
    trainer.trackers.close()
    return RunResult(folder.path, **outcome, signal=signal, evaluation=evaluation, picture=picture)
