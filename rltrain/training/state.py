"""What a training run knows: its parts, its counters and metrics, and the state that a checkpoint holds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from rltrain.agent import ACTOR, Agent, Metrics
from rltrain.compile import CompileClock
from rltrain.devices import answers_late, memory_in_use
from rltrain.errors import CheckpointError, RLTrainError
from rltrain.normalize import dead_share, moments_of
from rltrain.rng import derive_seed, global_state, set_global_state
from rltrain.runs.checkpoint import MODULES, load_training
from rltrain.runs.folder import RunFolder
from rltrain.runs.layout import step_name, step_of
from rltrain.runs.restore import restore_policy
from rltrain.runs.writer import CheckpointWriter
from rltrain.tracker import RunInfo
from rltrain.training.choices import Choices
from rltrain.training.diagnosis import Witness
from rltrain.training.distributions import Distributions
from rltrain.training.health import check_modules
from rltrain.training.health_watch import watch_for
from rltrain.training.learned_reward import logged_infos
from rltrain.training.metrics import EpisodeStats, Fetch, InfoMeans, MetricMeans
from rltrain.training.pauses import Kind, Pauses
from rltrain.training.saved_state import PROGRESS, check_kinds, check_progress
from rltrain.training.setup import Setup
from rltrain.training.tracker_list import TrackerList
from rltrain.training.watch import Span, Watch, check_current
from rltrain.tree import from_dict, to_dict

if TYPE_CHECKING:
    from rltrain.callbacks import Training

HISTOGRAMS = 20
"""How often a run takes histograms, unless told otherwise."""
SHOW_EVERY = 1.0  # seconds between two looks at the progress within an update


class RunState:
    """A run in memory; see :class:`~rltrain.training.trainer.Trainer` for the arguments.

    Attributes:
        global_step: Environment steps, over all environments and ranks.
        steps_at_once: Those of an iteration.
        seconds: In the training loop, over all sessions, evaluations, films and checkpoints included.
        pauses: The time of these.
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
        self.save_wanted = False  # by a callback
        self.global_step = 0  # environment steps, over all environments and ranks
        self.n_iterations = 0
        self.best_mean_reward = float("-inf")
        self.best_step: int | None = None
        self.saved_step: int | None = None
        self.best_before: tuple[float, int | None] = self.best_mean_reward, None  # the best one before
        self.common_step: int | None = None  # of a checkpoint to keep, because runs trained with this one have it too
        self.clock = time.perf_counter()  # at which there would have been no seconds
        self.seconds = 0.0  # in the training loop, over all sessions
        self.pauses = Pauses()  # which are part of them
        self.show_at = time.monotonic() + SHOW_EVERY  # when progress is shown next, where an update takes so long
        self.started_at = 0, 0.0  # the step and the seconds with which this session began
        self.compiling = CompileClock() if config.compile else None
        self.latest: dict[str, float] = {}  # the last value of every metric
        window = -(-config.stats_window_size // ranks.world_size)
        self.episodes = EpisodeStats(window, agent.horizon, env.num_envs, env.device)
        self.choices = Choices(env.single_action_space, agent.horizon)
        self.metrics = MetricMeans()
        self.infos = InfoMeans(logged_infos(config), env.device)
        self.health = watch_for(config, setup.request.env, env.single_action_space, self.total_timesteps)
        self.watch = Watch(agent, env.device)
        self.received = getattr(agent, "received", None)
        self.witness: Witness | None = None  # of the actions of the evaluation at the end
        self.evaluation_missed = False  # because a signal came in the middle of it
        self.fetching: tuple[Fetch, int, Distributions | None] | None = None
        self.normalizers = moments_of(agent)
        self.obs = env.reset(ranks.seed(config.seed))
        self.state = agent.actor.initial_state(env.num_envs)

    def stop(self) -> None:
        """Ends the run after this update; for callbacks."""
        self.stopped = True

    def save_soon(self) -> None:
        """Writes a checkpoint after this update; for callbacks."""
        self.save_wanted = True

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
        means = {**self.episodes.means(self.ranks), **self.metrics.take(self.ranks), **self.infos.take(self.ranks)}
        metrics = {**means, **self.signs(), **self.times()}
        self.fetching = Fetch(metrics), self.global_step, self.distributions()
        if not answers_late(self.env.device):
            self.deliver()

    def deliver(self) -> None:
        """Hands over the metrics that were fetched but not handed over yet."""
        if self.fetching is not None:
            (fetching, step, distributions), self.fetching = self.fetching, None
            self.publish(fetching.values(), step)
            if distributions is not None:
                for tag, values in distributions.values():
                    self.trackers.histogram(tag, values, step)

    def signs(self) -> Metrics:
        """Metrics that are computed at log points alone: those of the agent, and whether its normalisers are alive."""
        signs = dict(self.agent.signs()) if isinstance(self.agent, Agent) else {}
        if self.normalizers:
            signs["train/dead_statistics"] = dead_share(self.normalizers)
        return signs

    def distributions(self) -> Distributions | None:
        """Samples for histograms, at the first log point after every ``histogram_freq`` environment steps."""
        freq = self.config.histogram_freq
        every = max(1, self.config.total_timesteps // HISTOGRAMS) if freq is None else freq
        before = max(0, self.global_step - self.log_interval * self.steps_at_once)
        due = every > 0 and self.global_step // every > before // every
        if not (due and isinstance(self.agent, Agent) and self.trackers.takes("histogram")):
            return None
        return Distributions(self.agent)

    def publish(self, metrics: dict[str, float], step: int) -> None:
        """Hands the metrics of a log point to the trackers."""
        metrics = self.diagnosed(metrics, step)
        self.track(metrics, step)
        self.callbacks.log(cast("Training", self), metrics)

    def diagnosed(self, metrics: dict[str, float], step: int) -> dict[str, float]:
        """The metrics, with those of diagnoses that are new or over; says what is wrong, here and to the trackers."""
        findings = self.health.look(metrics, step, self.training_seconds) if self.ranks.first else []
        for finding in findings:
            if finding.what:
                self.trackers.text(f"health/{finding.rule.name}", finding.markdown(), step)
                warnings.warn(str(finding), stacklevel=2)
        return {**metrics, **{f"health/{finding.rule.name}": float(bool(finding.what)) for finding in findings}}

    def show(self, step: int) -> None:
        """Tells whoever shows progress how many environment steps were taken; not again within a second."""
        self.show_at = time.monotonic() + SHOW_EVERY
        self.trackers.advance(step)

    def times(self) -> dict[str, float]:
        """Metrics of time and memory; steps per second exclude compilation, evaluations, films and checkpoints."""
        return {
            "time/fps": (self.global_step - self.started_at[0]) / max(self.training_seconds, 1e-9),
            "time/time_elapsed": self.seconds,
            "time/iterations": self.n_iterations,
            **self.pauses.metrics(),
            **memory_in_use(self.env.device),
        }

    def tick(self) -> None:
        """Reads the clock."""
        self.seconds = time.perf_counter() - self.clock

    @contextmanager
    def paused(self, kind: Kind) -> Iterator[None]:
        """Counts the time inside as no part of training."""
        with self.pauses.of(kind):
            yield
        self.tick()

    @property
    def training_seconds(self) -> float:
        """Seconds of this session until the last update, without compilation and pauses."""
        return self.seconds - self.started_at[1] - self.compile_seconds - self.pauses.session

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
            "infos": self.infos.state_dict(),
            "callbacks": self.callbacks.state_dict(cast("Training", self)),
            "generators": global_state(),
        }

    def progress(self) -> dict[str, Any]:
        """The counters and the latest metrics, for a checkpoint."""
        progress = {name: getattr(self, name) for name in PROGRESS}
        beside = {"pauses": dict(self.pauses.seconds), "health": self.health.state_dict()}
        return {**progress, **beside, "cost": self.setup.meter.state_dict()}

    def load_progress(self, saved: dict[str, Any]) -> None:
        """Restores what :meth:`progress` returned."""
        for name in PROGRESS:
            missing = name == "evaluation_missed" and name not in saved  # older checkpoints do not say
            setattr(self, name, False if missing else saved[name])
        self.pauses.load(saved.get("pauses", {}))
        self.health.load_state_dict(saved.get("health", {}))
        self.setup.meter.load_state_dict(saved.get("cost", {}))

    def load(self, checkpoint: Path) -> None:
        """Continues from a checkpoint directory.

        Raises:
            CheckpointError: It belongs to another kind of run.
        """
        restore_policy(self.agent, checkpoint)
        state = load_training(checkpoint, self.ranks.rank)
        try:
            check_progress(state["trainer"], step_of(checkpoint))
            check_kinds(state, {**self.training_state(), "callbacks": {}})  # which are the user's
            self.load_training_state(state)
        except (MemoryError, OSError, RLTrainError):
            raise
        except Exception as error:  # whatever an agent or an environment makes of what is not its own
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
        self.infos.load_state_dict(state.get("infos", {}))  # older checkpoints have none
        self.callbacks.load_state_dict(cast("Training", self), state.get("callbacks", {}))
        set_global_state(state["generators"])  # last: nothing after this draws
