"""Where a run's numbers go: the interface of trackers, and nothing concrete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping


class Tracker(ABC):
    """Takes the metrics of one run to one place: files, the terminal, a service.

    A tracker is made when its run starts or resumes, and is the only thing that knows its place. Whatever the
    place needs beyond metrics (run folder, configuration, the step resumed from) goes to the constructor:
    ``wandb.init`` or ``mlflow.start_run`` belong there, ``run.log(metrics, step=step)`` in :meth:`log`,
    ``run.summary.update(metrics)`` in :meth:`finish`, and ``run.finish()`` in :meth:`close`.

    One thread calls, in this order: ``log`` any number of times, ``finish`` at most once, ``close``.
    Values may be NaN or infinite, and no tracker may fail because of that.
    """

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds metrics at a step.

        Args:
            step: Environment steps so far, over all environments. It never goes back; several calls may share one.
            metrics: Values by tag, such as ``rollout/ep_rew_mean``. Which tags come may change from call to call.
        """

    @abstractmethod
    def finish(self, metrics: Mapping[str, float]) -> None:
        """Takes the final metrics of a run that completed or was stopped in good order; not called after a failure.

        Args:
            metrics: The last value of each metric, for places that keep a summary beside the curves. Most were logged
                before and stand on their curves already, at the step they belong to.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is left and gives back what is held; after a failure too. Calling it again does nothing."""
