"""Ready-made callbacks: ends of a run, the best policy, further evaluations, checkpoints by time.

They keep what they remember for each run apart, and a checkpoint holds it: one list of callbacks serves many seeds, and
a resumed run goes on as if it had never stopped. They look at log points, evaluations and updates. There is no hook for
every step: thousands of environments step at once on the device, and a call of Python for each would cost more than the
step. What must see every step belongs into the environment, or into a wrapper around it, as tensors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rltrain.callbacks import Callback, Training
from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.naming.arguments import typed
from rltrain.vec import check_count

RETURN, SCORE = "rollout/ep_rew_mean", "eval/mean_reward"


class Remembering(Callback):
    """A callback that remembers numbers of each run, by name."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, float]] = {}

    def memory(self, trainer: Training) -> dict[str, float]:
        """What is remembered of a run."""
        return self._runs.setdefault(str(trainer.folder.path), {})

    def state_dict(self, trainer: Training) -> dict[str, Any]:
        """What is remembered of a run."""
        return dict(self.memory(trainer))

    def load_state_dict(self, trainer: Training, state: Mapping[str, Any]) -> None:
        """Remembers it again."""
        self._runs[str(trainer.folder.path)] = dict(state)


class OnMetric(Remembering):
    """A callback that looks at one metric, at log points and evaluations.

    The mean return of training counts once as many episodes have ended as it is taken over.

    Args:
        tag: The metric.

    Raises:
        ConfigError: The metric will never be there.
    """

    @typed()
    def __init__(self, tag: str) -> None:
        super().__init__()
        if "/" not in tag:
            raise ConfigError(f"tag={tag!r} is no metric.", f"Give a tag such as '{RETURN}' or '{SCORE}'.")
        self.tag = tag

    def on_setup(self, config: TrainConfig) -> None:
        """Checks that evaluations are made if it looks at them."""
        if self.tag.startswith("eval/") and not config.eval_freq:
            raise ConfigError(
                f"{type(self).__name__} looks at '{self.tag}', and there are no evaluations.", "Give an --eval-freq."
            )

    def on_log(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """Looks for the metric."""
        full = metrics.get("rollout/episodes", 0.0) >= trainer.config.stats_window_size
        if self.tag in metrics and (full or self.tag != RETURN):
            self.see(trainer, metrics[self.tag])

    def on_evaluation(self, trainer: Training, metrics: Mapping[str, float]) -> None:
        """Looks for the metric."""
        if self.tag in metrics:
            self.see(trainer, metrics[self.tag])

    def see(self, trainer: Training, value: float) -> None:
        """Takes a new value of the metric."""


class StopAtThreshold(OnMetric):
    """Ends the run when a metric has reached a threshold.

    Args:
        threshold: The threshold.
        tag: The metric.
        times: How often in a row it must be reached.
        falling: Whether it is reached from above.
    """

    @typed("times")
    def __init__(self, threshold: float, tag: str = SCORE, *, times: int = 1, falling: bool = False) -> None:
        super().__init__(tag)
        check_count("times", times)
        if math.isnan(threshold):
            raise ConfigError("threshold=nan is never reached.", "Give a number.")
        self.threshold, self.times, self.falling = threshold, times, falling

    def see(self, trainer: Training, value: float) -> None:
        """Counts how often it was reached."""
        memory = self.memory(trainer)
        reached = value <= self.threshold if self.falling else value >= self.threshold
        memory["reached"] = memory.get("reached", 0) + 1 if reached else 0
        if memory["reached"] >= self.times:
            trainer.stop()


class StopOnPlateau(OnMetric):
    """Ends the run when a metric has not improved for some time.

    Args:
        patience: Environment steps without an improvement.
        tag: The metric; larger is better.
        min_delta: What counts as an improvement.
    """

    @typed("patience")
    def __init__(self, patience: int, tag: str = SCORE, *, min_delta: float = 0.0) -> None:
        super().__init__(tag)
        check_count("patience", patience)
        if not 0.0 <= min_delta < math.inf:
            raise ConfigError(f"min_delta={min_delta} is out of range.", "Give a number from 0 on.")
        self.patience, self.min_delta = patience, min_delta

    def see(self, trainer: Training, value: float) -> None:
        """Compares with the best value so far."""
        memory = self.memory(trainer)
        if "best" not in memory or value > memory["best"] + self.min_delta:
            memory["best"], memory["step"] = value, trainer.global_step
        elif trainer.global_step - memory["step"] >= self.patience:
            trainer.stop()


class StopAfter(Callback):
    """Ends the run in good order after some time, such as shortly before a cluster would.

    Args:
        seconds: Seconds of this session; a resumed run counts anew.
        minutes: Minutes, added to them.
        hours: Hours, added to them.
    """

    @typed()
    def __init__(self, *, seconds: float = 0.0, minutes: float = 0.0, hours: float = 0.0) -> None:
        self.seconds = seconds + 60.0 * minutes + 3600.0 * hours
        if not self.seconds > 0:
            raise ConfigError("StopAfter is given no time.", "Give seconds, minutes or hours.")
        self._began = time.monotonic()

    def on_setup(self, config: TrainConfig) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def on_update(self, trainer: Training, metrics: dict[str, Tensor | float]) -> None:
        """Looks at the clock."""
        if time.monotonic() - self._began >= self.seconds:
            trainer.stop()


class KeepBest(OnMetric):
    """Keeps the policy with the largest value of a metric as the best, where no evaluations choose it.

    ``rltrain eval RUN --checkpoint best`` plays it.

    Args:
        tag: The metric.
    """

    @typed()
    def __init__(self, tag: str = RETURN) -> None:
        super().__init__(tag)

    def on_setup(self, config: TrainConfig) -> None:
        """Checks that nothing else chooses the best policy."""
        if config.eval_freq:
            raise ConfigError(
                "KeepBest has no effect: evaluations choose the best policy already.",
                "Leave it out, or leave --eval-freq out.",
            )
        super().on_setup(config)

    def see(self, trainer: Training, value: float) -> None:
        """Saves the policy if it is the best so far."""
        trainer.keep_as_best(value)


class EvaluateOn(Callback):
    """Evaluates in environments with other settings, or of another split, as ``eval_NAME/mean_reward`` and so on.

    Args:
        name: What these are called in the tags, such as ``test``.
        every: Environment steps between two evaluations.
        episodes: Episodes of each, the same ones each time.
        **options: Constructor arguments of the environment, and options of it, that differ from those of training.

    Raises:
        ConfigError: A number is out of range.
    """

    @typed("every", "episodes")
    def __init__(self, name: str, *, every: int, episodes: int = 20, **options: Any) -> None:
        check_count("every", every)
        check_count("episodes", episodes)
        self.name, self.every, self.episodes, self.options = name, every, episodes, options

    def on_update(self, trainer: Training, metrics: dict[str, Tensor | float]) -> None:
        """Evaluates where it is due."""
        if trainer.due(self.every):
            trainer.evaluate_with(self.name, self.episodes, **self.options)


class SaveEvery(Callback):
    """Writes a checkpoint every so many minutes, beside those of ``--save-freq``.

    Args:
        minutes: Minutes between two checkpoints.
    """

    @typed()
    def __init__(self, minutes: float) -> None:
        if not minutes > 0:
            raise ConfigError(f"minutes={minutes} is no time.", "Give a number above 0.")
        self.seconds = 60.0 * minutes
        self._saved = time.monotonic()

    def on_setup(self, config: TrainConfig) -> None:
        """Starts the clock."""
        self._saved = time.monotonic()

    def on_update(self, trainer: Training, metrics: dict[str, Tensor | float]) -> None:
        """Asks for a checkpoint when it is time."""
        if time.monotonic() - self._saved >= self.seconds:
            self._saved = time.monotonic()
            trainer.save_soon()
