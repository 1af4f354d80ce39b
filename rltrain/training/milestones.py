"""What is due between two updates: evaluations, films and checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from rltrain.agent import Actor
from rltrain.errors import CheckpointError
from rltrain.evaluation.episodes import Evaluation, run_episodes
from rltrain.evaluation.limits import Limits, make_limited
from rltrain.evaluation.video import film
from rltrain.process.memory import give_memory_back
from rltrain.process.stopping import Stopped, asked
from rltrain.rng import derive_seed, global_kept
from rltrain.runs.layout import prune, step_name
from rltrain.storage.files import check_folder
from rltrain.training.diagnosis import Witness
from rltrain.training.saving import failures_handled
from rltrain.training.state import RunState
from rltrain.vec import VecEnv

FILM_SECONDS = 120.0
"""After how many seconds a film of a training run ends with what it shows."""


class Milestones(RunState):
    """A run that can be evaluated, filmed and saved. None of these changes how it is trained."""

    def evaluate(self) -> None:
        """Plays ``n_eval_episodes``, the same ones each time, and saves the policy if it is the best so far.

        An evaluation that fails or is stopped is left out with a warning.
        """
        self.watch.settle()
        self.deliver()
        metrics = None
        if self.ranks.first:
            try:
                metrics = self.play("evaluation").metrics()
            except Stopped:
                pass  # the run saves, and ends
            except (Exception, SystemExit) as error:
                warnings.warn(f"There is no evaluation at step {self.global_step:,}. {error}", stacklevel=2)
        metrics = self.ranks.broadcast_object(metrics)
        self.evaluation_missed = metrics is None
        if metrics is None:
            return
        metrics = self.diagnosed(metrics, self.global_step)
        self.track(metrics)
        self.callbacks.evaluation(self, metrics)
        self._keep_if_better(metrics["eval/mean_reward"])

    def keep_as_best(self, value: float) -> None:
        """Saves the policy as the best if a value is larger than every one before; for callbacks, on all ranks."""
        with self.paused("save"):
            self._keep_if_better(float(self.ranks.broadcast_object(float(value))))

    def evaluate_with(self, name: str, episodes: int, **options: Any) -> dict[str, float]:
        """Plays episodes in other environments than those of training; for callbacks, on all ranks.

        Args:
            name: The metrics are ``eval_NAME/mean_reward`` and so on.
            episodes: The number of episodes, the same ones each time.
            **options: What differs from the environments of training.
        """
        self.watch.settle()
        self.deliver()
        metrics: dict[str, float] = {}
        with self.paused("eval"):
            if self.ranks.first:
                try:
                    result = self.play(f"evaluation {name}", number=episodes, **options)
                    metrics = {tag.replace("eval/", f"eval_{name}/", 1): x for tag, x in result.metrics().items()}
                except Stopped:
                    pass
                except (Exception, SystemExit) as error:
                    warnings.warn(
                        f"There is no evaluation '{name}' at step {self.global_step:,}. {error}", stacklevel=2
                    )
            metrics = dict(self.ranks.broadcast_object(metrics))
        if metrics:
            self.track(metrics)
            self.callbacks.evaluation(self, metrics)
        return metrics

    def _keep_if_better(self, mean_reward: float) -> None:
        if mean_reward > self.best_mean_reward:
            is_saved = self.saved_step == self.global_step
            self.best_before = self.best_mean_reward, self.best_step
            self.best_mean_reward, self.best_step = mean_reward, self.global_step
            self.save()
            if is_saved:
                self.hear_of_saving(wait=True)
                with failures_handled(self):
                    self.folder.set_best(self.best_step, mean_reward)

    def evaluate_finally(self) -> Evaluation:
        """Plays ``n_eval_episodes`` that no evaluation during training has played.

        The result is added to the curve of evaluations, unless the curve has a point at this step. Where no further
        environments can be made, such as simulators or robots of which there is one, those of training are used.

        Raises:
            Stopped: A signal came first.
        """
        self.witness = Witness(self.agent.actor)
        try:
            result = self.play("fresh", self.witness)
        except Stopped:
            raise
        except (Exception, SystemExit) as error:
            warnings.warn(
                f"The final evaluation is in the environments of training, since other ones fail: {error}", stacklevel=2
            )
            self.witness = Witness(self.agent.actor)
            result = self.play("fresh", self.witness, self.env)
        if not self.due(self.config.eval_freq):
            self.track(result.metrics())
        return result

    @global_kept()
    def play(
        self,
        stream: str,
        actor: Actor | None = None,
        env: VecEnv | None = None,
        number: int | None = None,
        **changes: Any,
    ) -> Evaluation:
        """Plays ``n_eval_episodes`` with the start states of a random stream.

        Args:
            stream: The name of the stream.
            actor: Who acts, if not the agent's actor.
            env: The environments, if not new ones.
            number: How many episodes, if not so many.
            **changes: What differs from the environments of training.
        """
        config, actor = self.config, actor or self.agent.actor
        episodes = max(config.n_eval_episodes if number is None else number, 1)
        limits = Limits(config.eval_max_steps, config.eval_max_seconds, progress=self.setup.request.shows)
        options: dict[str, Any] = {"seed": derive_seed(config.seed, stream), "limits": limits}
        if env is not None:
            return run_episodes(actor, env, episodes, **options)
        limited = getattr(self.env, "max_episode_steps", None) is not None
        with closing(make_limited(partial(self.make_env, episodes, **changes), limits, limited=limited)) as made:
            return run_episodes(actor, made, episodes, **options)

    @global_kept()
    def film(self) -> None:
        """Films one episode; if that fails, it warns and training goes on."""
        path = self.folder.videos / f"{step_name(self.global_step)}.mp4"
        seed = derive_seed(self.config.seed, "video", self.global_step)
        try:
            self.folder.videos.mkdir(exist_ok=True)
            check_folder(self.folder.videos)
            with closing(self.make_env(1, render=True)) as env:
                limits = Limits(seconds=FILM_SECONDS, what="film")
                film(env, path, self.agent.actor, seed=seed, captions=self.config.video_captions, limits=limits)
        except (Exception, SystemExit) as error:  # of whatever draws
            if asked():  # by a signal, which may have ended ffmpeg too
                return
            warnings.warn(f"There is no film of step {self.global_step:,}. {error}", stacklevel=2)
        else:
            self.trackers.video(path, self.global_step)
        give_memory_back()

    def save(self, *, last: bool = False) -> None:
        """Writes a checkpoint with the whole training state, unless this step has one.

        If it holds a replay it is written beside training, and a failure is told at the next update.

        Args:
            last: Whether the run ends here, so that a failure cannot be made up for.

        Raises:
            RunError: A number is not finite, or the policy differs between ranks, see :func:`check_modules`; or the run
                folder was moved.
            CheckpointError: It cannot be written; see :func:`~rltrain.training.saving.failures_handled`.
        """
        self.watch.settle()
        self.deliver()
        if self.saved_step == self.global_step:
            return
        with self.paused("save"):
            self._begin_saving(last=last)
        self.hear_of_saving(last=last)

    def _begin_saving(self, *, last: bool) -> None:
        self.hear_of_saving(wait=True)
        with failures_handled(self, last=last):
            policy, state = self.snapshot()
            facts = self.folder.facts() if self.ranks.first else None
            self.writer.begin(self.global_step, policy, state, facts, self.after_saving(self.global_step))
            self.saved_step = self.global_step

    def after_saving(self, step: int) -> Callable[[], None]:
        """What is to be done in the run folder as soon as the checkpoint of a step is there, perhaps by a thread."""
        best, mean_reward = self.best_step, self.best_mean_reward

        def settle() -> None:
            if best == step:  # before the best one until now is removed
                self.folder.set_best(step, mean_reward)
            self.prune(best)

        return settle

    def prune(self, best: int | None) -> None:
        """Removes old checkpoints, but not the best one."""
        if self.ranks.first:
            prune(self.folder.checkpoints, self.config.keep_checkpoints, best, self.common_step)

    def hear_of_saving(self, *, wait: bool = False, last: bool = False) -> None:
        """Shows trackers and callbacks the checkpoint that was being written, if it is there by now.

        Args:
            wait: Whether to wait until it is.
            last: See :meth:`save`.

        Raises:
            CheckpointError: It could not be written.
            RunError: The run folder was moved.
        """
        if not self.writer.busy:
            return
        with failures_handled(self, last=last):
            try:
                path = self.writer.finish() if wait else self.writer.poll()
            except CheckpointError:
                if self.best_step == self.saved_step:
                    self.best_mean_reward, self.best_step = self.best_before
                self.saved_step = None
                raise
            if path is not None:
                self.trackers.artifact(path, "checkpoint")
                self.callbacks.checkpoint(self, path)
