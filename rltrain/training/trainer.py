"""The training loop: collect, learn, and at intervals log, evaluate, save and film."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.agent import ACTOR, Actor, Metrics, next_state
from rltrain.compile import CompileClock
from rltrain.devices import answers_late
from rltrain.errors import CheckpointError
from rltrain.evaluation.episodes import Evaluation, run_episodes
from rltrain.evaluation.limits import Limits, make_limited
from rltrain.evaluation.video import film
from rltrain.files import check_folder
from rltrain.rng import derive_seed, global_kept, global_state, set_global_state
from rltrain.runs.checkpoint import MODULES, load_training, prune, step_name
from rltrain.runs.folder import RunFolder
from rltrain.runs.restore import restore_policy
from rltrain.runs.writer import CheckpointWriter
from rltrain.stopping import Stopped, asked
from rltrain.tracker import RunInfo
from rltrain.training.callback_list import CallbackList
from rltrain.training.diagnosis import Witness
from rltrain.training.health import check_modules, diverged
from rltrain.training.metrics import EpisodeStats, Fetch, MetricMeans
from rltrain.training.saving import failures_handled, notice_move
from rltrain.training.setup import Setup
from rltrain.training.tracker_list import TrackerList
from rltrain.training.watch import Given, Span, Watch
from rltrain.tree import from_dict, to_dict
from rltrain.vec import VecEnv

FILM_SECONDS = 120.0
"""After how many seconds a film of a training run ends with what it shows."""
PROGRESS = ("global_step", "n_iterations", "seconds", "best_mean_reward", "best_step", "latest")


class Trainer:
    """Trains an agent in a vectorised environment.

    All ranks take the same decisions: these depend only on all-reduced numbers, on flags that the ranks exchange, and
    on values that are the same on every rank.

    Args:
        setup: The setup of the run.
        folder: The folder for checkpoints and videos.
        interrupted: A function that is called after each update and returns whether to save and stop.
    """

    def __init__(self, setup: Setup, folder: RunFolder, interrupted: Callable[[], bool] = lambda: False) -> None:
        self.setup = setup
        self.config = config = setup.config
        self.agent = agent = setup.agent
        self.env = env = setup.env
        self.ranks = ranks = setup.ranks
        self.make_env = setup.make_env
        self.callbacks = setup.callbacks
        self.folder = folder
        self.writer = CheckpointWriter(folder.checkpoints, ranks)
        self.total_timesteps = setup.request.total
        self.trackers = TrackerList(RunInfo(folder.path, self.total_timesteps))  # empty until the session adds trackers
        self.steps_at_once = agent.horizon * env.num_envs * ranks.world_size  # in an iteration, over all ranks
        self.log_interval = config.log_interval or max(1, agent.log_interval // ranks.world_size)
        self.interrupted = interrupted
        self.stopped = False
        self.global_step = 0  # environment steps, over all environments and ranks
        self.n_iterations = 0
        self.best_mean_reward = float("-inf")
        self.best_step: int | None = None
        self.saved_step: int | None = None
        self.best_before: tuple[float, int | None] = self.best_mean_reward, None  # the best one before
        self.common_step: int | None = None  # of a checkpoint to keep, because runs trained with this one have it too
        self.seconds = 0.0  # of training, over all sessions
        self.compiling = CompileClock() if config.compile else None
        self.latest: dict[str, float] = {}  # the last value of every metric
        window = -(-config.stats_window_size // ranks.world_size)
        self.episodes = EpisodeStats(window, agent.horizon, env.num_envs, env.device)
        self.metrics = MetricMeans()
        self.watch = Watch(agent, env.device)
        self.received = getattr(agent, "received", None)
        self.witness: Witness | None = None  # of the actions of the evaluation at the end
        self.evaluation_missed = False  # because a signal came in the middle of it
        self.fetching: tuple[Fetch, int] | None = None
        self.obs = env.reset(ranks.seed(config.seed))
        self.state = agent.actor.initial_state(env.num_envs)

    @staticmethod
    def check_callbacks(algo: str, callbacks: CallbackList) -> None:
        """Refuses callbacks that this kind of trainer does not support; this one supports all."""

    def run(self) -> str:
        """Trains until there is a reason to stop, and returns the reason."""
        self.begin()
        while (reason := self.reason_to_stop()) is None:
            self.agent.progress_remaining = self.progress_remaining
            self.collect()
            self.callbacks.rollout(self)
            self.learned(self.agent.learn())
        self.end(reason)
        return reason

    def begin(self) -> None:
        """Starts the clock; catches up on an evaluation that a signal ended."""
        self.clock = time.perf_counter() - self.seconds
        self.started_at = self.global_step, self.seconds
        if self.evaluation_missed:
            self.evaluate()

    @property
    def progress_remaining(self) -> float:
        """Falls from 1 to 0 over the original horizon of the run; stays at 0 in a run that was prolonged."""
        return max(0.0, 1.0 - self.global_step / self.config.total_timesteps)

    def learned(self, metrics: Metrics) -> None:
        """Does everything that follows the learning of the agent."""
        self.metrics.add(metrics)
        self.updated(metrics)

    def updated(self, metrics: Metrics) -> None:
        """Does everything that is due between two updates."""
        self.hear_of_saving()
        self.callbacks.update(self, metrics)
        self.watch.update(metrics, self.given(), self.span)
        self.seconds = time.perf_counter() - self.clock
        if self.n_iterations % self.log_interval == 0:
            self.log()
            notice_move(self)
        if self.due(self.config.eval_freq):
            self.evaluate()
        if self.due(self.config.save_freq):
            self.save()
        if self.due(self.config.video_freq) and self.ranks.first:
            self.film()

    def given(self) -> Given | None:
        """What the environments gave since the last update, for the watch."""
        return Given(self.episodes.returns, self.received() if self.received else None)

    @property
    def span(self) -> Span:
        """The environment steps of the last update, for the watch."""
        several = self.ranks.world_size > 1
        each = self.env.num_envs * self.ranks.world_size
        return Span(self.global_step, each, self.saved_step, self.ranks.rank if several else None)

    def end(self, reason: str) -> None:
        """Logs the metrics since the last log point, saves, and waits until the checkpoint is there."""
        if reason != "interrupted" and self.n_iterations % self.log_interval:
            self.log()
        self.save(last=True)
        self.hear_of_saving(wait=True, last=True)

    def collect(self) -> None:
        """Steps the environments ``agent.horizon`` times."""
        initial = self.agent.actor.initial_state(self.env.num_envs)
        for _ in range(self.agent.horizon):
            out = self.agent.act(self.obs, self.state)
            step = self.env.step(out.action)
            self.agent.record(out, step)
            self.episodes.note(step)
            self.obs, self.state = step.obs, next_state(out, step, initial)
        self.episodes.merge()
        self.collected()

    def collected(self) -> None:
        """Counts the collected steps."""
        self.global_step += self.steps_at_once
        self.n_iterations += 1

    def reason_to_stop(self) -> str | None:
        """Why it ends: ``interrupted``, ``callback``, ``stop_at_reward``, ``total_timesteps``; None if it goes on."""
        interrupted, stopped = self.ranks.any(self.interrupted(), self.stopped)
        if interrupted:
            return "interrupted"
        if stopped:
            return "callback"
        target = self.config.stop_at_reward
        window_full = self.latest.get("rollout/episodes", 0) >= self.config.stats_window_size
        if target is not None and window_full and self.latest["rollout/ep_rew_mean"] >= target:
            return "stop_at_reward"
        return "total_timesteps" if self.global_step >= self.total_timesteps else None

    def stop(self) -> None:
        """Ends the run after this update; for callbacks."""
        self.stopped = True

    def due(self, freq: int) -> bool:
        """Whether the last iteration passed a multiple of ``freq`` environment steps."""
        return freq > 0 and self.global_step // freq > (self.global_step - self.steps_at_once) // freq

    def log(self) -> None:
        """Fetches the metrics, in one transfer, and hands them to the trackers.

        On an accelerator the host does not wait for the transfer: the metrics are handed over at the next log point,
        or before a checkpoint.
        """
        self.deliver()
        metrics = {**self.episodes.means(self.ranks), **self.metrics.take(self.ranks), **self.times()}
        self.fetching = Fetch(metrics), self.global_step
        if not answers_late(self.env.device):
            self.deliver()

    def deliver(self) -> None:
        """Hands over the metrics that were fetched but not handed over yet."""
        if self.fetching is not None:
            (fetching, step), self.fetching = self.fetching, None
            self.publish(fetching.values(), step)

    def publish(self, metrics: dict[str, float], step: int) -> None:
        """Hands the metrics of a log point to the trackers.

        Raises:
            RunError: The loss is not finite.
        """
        self.track(metrics, step)
        if not math.isfinite(metrics.get("train/loss", 0.0)):
            raise diverged("The loss is", self.global_step)
        self.callbacks.log(self)

    def times(self) -> dict[str, float]:
        """Metrics of time; steps per second exclude the time of compilation."""
        step_then, seconds_then = self.started_at
        seconds = self.seconds - seconds_then - self.compile_seconds
        return {
            "time/fps": (self.global_step - step_then) / max(seconds, 1e-9),
            "time/time_elapsed": self.seconds,
            "time/iterations": self.n_iterations,
        }

    @property
    def compile_seconds(self) -> float:
        """Seconds that this session has spent compiling."""
        return self.compiling.seconds if self.compiling else 0.0

    def track(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Hands numbers to every tracker, at the current step unless another is given."""
        self.latest.update(metrics)
        self.trackers.log(metrics, self.global_step if step is None else step)

    def evaluate(self) -> None:
        """Plays ``n_eval_episodes``, the same ones each time, and saves the policy if it is the best so far.

        An evaluation that fails or is stopped is left out with a warning.
        """
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
        self.track(metrics)
        mean_reward = metrics["eval/mean_reward"]
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
    def play(self, stream: str, actor: Actor | None = None, env: VecEnv | None = None) -> Evaluation:
        """Plays ``n_eval_episodes`` with the start states of a random stream.

        Args:
            stream: The name of the stream.
            actor: Who acts, if not the agent's actor.
            env: The environments, if not new ones.
        """
        config, episodes, actor = self.config, max(self.config.n_eval_episodes, 1), actor or self.agent.actor
        limits = Limits(config.eval_max_steps, config.eval_max_seconds, progress=self.setup.request.shows)
        options: dict[str, Any] = {"seed": derive_seed(config.seed, stream), "limits": limits}
        if env is not None:
            return run_episodes(actor, env, episodes, **options)
        limited = getattr(self.env, "max_episode_steps", None) is not None
        with closing(make_limited(partial(self.make_env, episodes), limits, limited=limited)) as made:
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
        self.hear_of_saving(wait=True)
        with failures_handled(self, last=last):
            policy, state = self.snapshot()
            facts = self.folder.facts() if self.ranks.first else None
            self.writer.begin(self.global_step, policy, state, facts, self.after_saving(self.global_step))
            self.saved_step = self.global_step
        self.hear_of_saving(last=last)

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

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The actor's tensors and the whole training state, for a checkpoint.

        Raises:
            RunError: A number is not finite, or the policy differs between ranks; see :func:`check_modules`.
        """
        modules, state = self.agent.state_dict(), self.training_state()
        check_modules(modules, self.ranks, self.global_step, state["agent"])
        policy = {name.removeprefix(ACTOR): x for name, x in modules.items() if name.startswith(ACTOR)}
        beside = {name: x for name, x in modules.items() if not name.startswith(ACTOR)} if self.ranks.first else {}
        return policy, {**state, MODULES: beside}

    def training_state(self) -> dict[str, Any]:
        """The whole training state except the agent's module state."""
        return {
            "trainer": {name: getattr(self, name) for name in (*PROGRESS, "evaluation_missed")},
            "agent": self.agent.training_state(),
            "env": self.env.state_dict() if self.env.exact_resume else {},
            "obs": {"obs": self.obs},
            "state": {} if self.state is None else {"state": to_dict(self.state)},
            "episodes": self.episodes.state_dict(),
            "metrics": self.metrics.state_dict(),
            "generators": global_state(),
        }

    def load(self, checkpoint: Path) -> None:
        """Continues from a checkpoint directory.

        Raises:
            CheckpointError: It belongs to another kind of run.
        """
        restore_policy(self.agent, checkpoint)
        state = load_training(checkpoint, self.ranks.rank)
        try:
            self.load_training_state(state)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"'{checkpoint}' does not fit the run: {error}.", "Leave config.yaml as it was when the run was made."
            ) from error
        self.writer.resume(checkpoint)
        self.saved_step = self.global_step
        if self.best_step is not None and not (self.folder.checkpoints / step_name(self.best_step)).is_dir():
            self.best_step, self.best_mean_reward = None, float("-inf")  # a later best checkpoint has replaced it
        self.folder.set_best(self.best_step, self.best_mean_reward)

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`training_state` returned."""
        for name in PROGRESS:
            setattr(self, name, state["trainer"][name])
        self.evaluation_missed = state["trainer"].get("evaluation_missed", False)  # older checkpoints do not say
        self.agent.load_training_state(state["agent"])
        if self.env.exact_resume:
            self.env.load_state_dict(state["env"])
            self.obs = from_dict(self.obs, state["obs"]["obs"])
            if self.state is not None:
                self.state = from_dict(self.state, state["state"]["state"])
        else:  # draws other episodes than at the start of the run
            seed = self.ranks.seed(self.config.seed)
            self.obs = self.env.reset(derive_seed(seed, "resume", self.global_step))
        self.episodes.load_state_dict(state["episodes"])
        self.metrics.load_state_dict(state["metrics"])
        set_global_state(state["generators"])  # last: nothing after this draws
