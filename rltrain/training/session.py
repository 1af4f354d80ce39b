"""One session of a run: makes the trainer with its trackers, and concludes the run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.errors import RLTrainError, RunError, ended_by
from rltrain.evaluation.episodes import Evaluation
from rltrain.plugins import resolve
from rltrain.process.stopping import Stopped, asked
from rltrain.registry import spec_of
from rltrain.reports.plot import plot_run
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import list_checkpoints, remove_unfinished, set_aside, step_of
from rltrain.runs.lock import FolderMoved
from rltrain.storage.files import reason, remove_left_overs
from rltrain.tracker import RunInfo
from rltrain.training.card import environment_text, session_text
from rltrain.training.diagnosis import diagnose
from rltrain.training.failure import keep_traceback
from rltrain.training.setup import Setup
from rltrain.training.tracker_list import TrackerList

if TYPE_CHECKING:
    from rltrain.training.trainer import Trainer


@dataclass(frozen=True)
class RunResult:
    """A run that has ended.

    Attributes:
        run_dir: The run folder.
        steps: Environment steps, over all environments.
        seconds: Time in the training loop, over all sessions.
        compile_seconds: Time that this session took to compile, which is part of ``seconds``.
        stopped_by: ``total_timesteps``, ``stop_at_reward``, ``max_cost``, ``callback``, ``early_stop`` or
            ``interrupted``.
        signal: Number of the signal that interrupted it.
        evaluation: Fresh episodes of the final policy; None if interrupted or not wanted.
        picture: The picture of the learning curve, if one was drawn.
        cost: What it has cost over all sessions, as ``metadata.json`` has it: estimates of seconds, money and energy.
        diagnosis: What is wrong with the policy, in a sentence, if it exploded or collapsed.
    """

    run_dir: Path
    steps: int
    seconds: float
    compile_seconds: float
    stopped_by: str
    signal: int | None
    evaluation: Evaluation | None
    picture: Path | None
    cost: dict[str, Any] = field(default_factory=dict)
    diagnosis: str | None = None


@contextmanager
def session(setup: Setup, folder: RunFolder, interrupted: Callable[[], bool]) -> Iterator[Trainer]:
    """A trainer with its trackers, at the start or at a checkpoint; records in the metadata that it runs or failed."""
    request, config, checkpoint = setup.request, setup.config, setup.request.checkpoint
    with ExitStack() as stack:
        stack.callback(folder.release)
        folder.update_metadata({"status": "running", "error": None})
        made: Trainer | None = None
        try:
            made = trainer = resolve(request.agent.trainer)(setup, folder, interrupted)
            stack.callback(lambda: trainer.trackers.close())
            stack.callback(trainer.writer.close)
            if checkpoint is not None:
                trainer.load(checkpoint)
                setup.meter.load_state_dict(folder.metadata().get("cost") or {})  # also of steps that are done again
                if setup.ranks.first:
                    tidy(folder, checkpoint)
            if setup.ranks.first:
                trainer.trackers = TrackerList(
                    RunInfo(
                        folder.path,
                        request.total,
                        None if checkpoint is None else trainer.global_step,
                        f"{config.algo} on {config.env.id}, seed {config.seed}",
                        config.model_dump(mode="json"),
                        getattr(trainer.agent, "descriptions", {}),
                    ),
                    request.trackers,
                )
                introduce(trainer, None if checkpoint is None else trainer.global_step)
            yield trainer
        except SystemExit as error:
            failure = ended_by(error)
            tell_failure(folder, failure)
            raise failure from error
        except BaseException as error:
            step = "starting the run" if made is None else f"training, after {made.global_step:,} steps"
            keep_traceback(folder, error, step)
            tell_failure(folder, error)
            raise


def introduce(trainer: Trainer, resume_step: int | None) -> None:
    """Tells the trackers how this session was started, and what the environment is."""
    if not trainer.trackers.takes("text"):
        return
    trainer.trackers.text("session", session_text(resume_step), resume_step or 0)
    if resume_step is None:
        try:
            trainer.trackers.text("environment", environment_text(trainer.setup), 0)
        except Exception as error:  # of an environment that cannot be described; it can be trained in all the same
            warnings.warn(f"The trackers are not told what the environment is. {error}", stacklevel=2)


def tidy(folder: RunFolder, checkpoint: Path) -> None:
    """Sets aside the checkpoints after the one to continue from, and removes what a killed process left.

    Raises:
        RunError: They cannot be moved.
    """
    remove_unfinished(folder.checkpoints)
    remove_left_overs(folder.checkpoints)
    remove_left_overs(folder.path)
    later = [path for path in list_checkpoints(folder.checkpoints) if step_of(path) > step_of(checkpoint)]
    try:
        set_aside(later)
    except OSError as error:
        where = error.filename or folder.checkpoints
        raise RunError(
            f"'{where}' cannot be set aside: {reason(error)}.", "Make room, or see that you may write there."
        ) from error


def tell_failure(folder: RunFolder, error: BaseException) -> None:
    """Records in the metadata that the run failed, where the folder is now; warns if that cannot be written."""
    place = error.place if isinstance(error, FolderMoved) else None
    folder = RunFolder(place, writes=folder.writes) if place is not None else folder
    try:
        folder.update_metadata({"status": "failed", "error": f"{type(error).__name__}: {error}"})
    except FolderMoved:
        pass  # there is nothing left to write in
    except RLTrainError as another:
        warnings.warn(f"It is not recorded that the run failed. {another.cause}", stacklevel=2)


def conclude(trainer: Trainer, stopped_by: str) -> RunResult:
    """Evaluates the trained policy, draws the learning curve, and records in the metadata how the run ended.

    A signal ends the evaluation, of which nothing is kept; the run was saved before.
    """
    folder = trainer.folder
    evaluation: Evaluation | None = None
    if stopped_by != "interrupted" and trainer.config.n_eval_episodes and trainer.ranks.first:
        try:
            evaluation = trainer.evaluate_finally()
        except Stopped:
            pass
        except (Exception, SystemExit) as error:  # the saved checkpoints are still intact
            warnings.warn(f"There is no score. {error}", stacklevel=2)
    signal = max(trainer.ranks.gather(asked() or 0)) or None
    threshold = spec_of(trainer.setup.request.env).reward_threshold
    diagnosis = diagnose(
        trainer.agent.state_dict(), trainer.env.single_action_space, trainer.witness, evaluation, threshold
    )
    if diagnosis is not None:
        warnings.warn(diagnosis, stacklevel=2)
    status = "interrupted" if stopped_by == "interrupted" else "completed"
    outcome: dict[str, Any] = {
        "steps": trainer.global_step,
        "seconds": trainer.seconds,
        "compile_seconds": trainer.compile_seconds,
        "stopped_by": stopped_by,
        "cost": trainer.setup.meter.bill(),
    }
    summary = evaluation.summary() if evaluation else None
    try:
        folder.update_metadata({"status": status, **outcome, "evaluation": summary, "diagnosis": diagnosis})
    except FolderMoved:
        raise
    except RunError as error:  # the policy is saved
        warnings.warn(f"It is not recorded how the run ended. {error.cause}", stacklevel=2)
    picture = None
    plays = not trainer.setup.request.agent.learns_from_data or trainer.config.eval_freq or evaluation is not None
    if status == "completed" and plays and "csv" in trainer.trackers:  # curves are drawn from its file
        try:
            thresholds = {} if threshold is None else {trainer.config.env.id: threshold}
            picture = plot_run(folder.path, thresholds)
        except Exception as error:
            warnings.warn(f"There is no picture. {getattr(error, 'cause', error)}", stacklevel=2)
        if picture is not None:
            trainer.trackers.artifact(picture, "learning_curve")
    trainer.trackers.finish(trainer.latest if status == "completed" else {})  # an interrupted run can still go on
    trainer.trackers.close()
    return RunResult(folder.path, **outcome, signal=signal, evaluation=evaluation, picture=picture, diagnosis=diagnosis)
