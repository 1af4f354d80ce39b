"""What a training run knows: its parts, its counters and metrics, and the state that a checkpoint holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from rltrain.agent import ACTOR
from rltrain.compile import CompileClock
from rltrain.devices import answers_late
from rltrain.errors import CheckpointError
from rltrain.rng import derive_seed, global_state, set_global_state
from rltrain.runs.checkpoint import MODULES, load_training
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import step_name
from rltrain.runs.restore import restore_policy
from rltrain.runs.writer import CheckpointWriter
from rltrain.tracker import RunInfo
from rltrain.training.choices import Choices
from rltrain.training.diagnosis import Witness
from rltrain.training.health import check_modules
from rltrain.training.metrics import EpisodeStats, Fetch, MetricMeans
from rltrain.training.setup import Setup
from rltrain.training.tracker_list import TrackerList
from rltrain.training.watch import Span, Watch, check_current
from rltrain.tree import from_dict, to_dict

SHOW_EVERY = 1.0  # seconds between two looks at the progress within an update
PROGRESS = ("global_step", "n_iterations", "seconds", "best_mean_reward", "best_step", "latest")


class RunState:
    """A run in memory; see :class:`~rltrain.training.trainer.Trainer` for the arguments.

    Attributes:
        global_step: Environment steps, over all environments and ranks.
        steps_at_once: Those of an iteration.
        seconds: Of training, over all sessions.
        latest: The last value of every metric.
        saved_step: The step of the last checkpoint.
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
        self.show_at = time.monotonic() + SHOW_EVERY  # when progress is shown next, where an update takes so long
        self.started_at = 0, 0.0  # the step and the seconds with which this session began
        self.compiling = CompileClock() if config.compile else None
        self.latest: dict[str, float] = {}  # the last value of every metric
        window = -(-config.stats_window_size // ranks.world_size)
        self.episodes = EpisodeStats(window, agent.horizon, env.num_envs, env.device)
        self.choices = Choices(env.single_action_space, agent.horizon)
        self.metrics = MetricMeans()
        self.watch = Watch(agent, env.device)
        self.received = getattr(agent, "received", None)
        self.witness: Witness | None = None  # of the actions of the evaluation at the end
        self.evaluation_missed = False  # because a signal came in the middle of it
        self.fetching: tuple[Fetch, int] | None = None
        self.obs = env.reset(ranks.seed(config.seed))
        self.state = agent.actor.initial_state(env.num_envs)

    def stop(self) -> None:
        """Ends the run after this update; for callbacks."""
        self.stopped = True

    @property
    def progress_remaining(self) -> float:
        """Falls from 1 to 0 over the original horizon of the run; stays at 0 in a run that was prolonged."""
        return max(0.0, 1.0 - self.global_step / self.config.total_timesteps)

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
        """Hands the metrics of a log point to the trackers."""
        self.track(metrics, step)
        self.callbacks.log(self)

    def show(self, step: int) -> None:
        """Tells whoever shows progress how many environment steps were taken; not again within a second."""
        self.show_at = time.monotonic() + SHOW_EVERY
        self.trackers.advance(step)

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

    @property
    def span(self) -> Span:
        """The environment steps of the last update, for the watch."""
        several = self.ranks.world_size > 1
        each = self.env.num_envs * self.ranks.world_size
        return Span(self.global_step, each, self.saved_step, self.ranks.rank if several else None)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The actor's tensors and the whole training state, for a checkpoint.

        Raises:
            RunError: A number is not finite, or the policy differs between ranks; see :func:`check_modules` and
                :func:`check_current`.
        """
        modules, state = self.agent.state_dict(), self.training_state()
        check_modules(modules, self.ranks, self.global_step, state["agent"])
        check_current(state.get("obs", {}).get("obs", {}), self.span)
        policy = {name.removeprefix(ACTOR): x for name, x in modules.items() if name.startswith(ACTOR)}
        beside = {name: x for name, x in modules.items() if not name.startswith(ACTOR)} if self.ranks.first else {}
        return policy, {**state, MODULES: beside}

    def training_state(self) -> dict[str, Any]:
        """The whole training state except the agent's module state."""
        return {
            "trainer": self.progress(),
            "agent": self.agent.training_state(),
            "env": self.env.state_dict() if self.env.exact_resume else {},
            "obs": {"obs": self.obs},
            "state": {} if self.state is None else {"state": to_dict(self.state)},
            "episodes": self.episodes.state_dict(),
            "metrics": self.metrics.state_dict(),
            "generators": global_state(),
        }

    def progress(self) -> dict[str, Any]:
        """The counters and the latest metrics, for a checkpoint."""
        return {name: getattr(self, name) for name in (*PROGRESS, "evaluation_missed")}

    def load_progress(self, saved: dict[str, Any]) -> None:
        """Restores what :meth:`progress` returned."""
        for name in PROGRESS:
            setattr(self, name, saved[name])
        self.evaluation_missed = saved.get("evaluation_missed", False)  # older checkpoints do not say

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
        self.load_progress(state["trainer"])
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
