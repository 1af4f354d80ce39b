"""The interface of trackers, which write the metrics of a run to files, the terminal or a service."""

# ruff: noqa: B027  # the empty methods are the defaults of a tracker that has no use for them

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class RunInfo:
    """The facts about a run that its trackers get.

    Attributes:
        run_dir: The run's folder.
        total_timesteps: Environment steps after which the run stops.
        resume_step: The step that the run continues from; None for a new run.
        title: Agent, environment and seed in one line: ``ppo on rltrain/CartPole-v1, seed 0``.
        config: The whole configuration, as ``config.yaml`` holds it: a nested dict of plain values.
        descriptions: What the agent's own metrics mean, by tag, in Markdown.
    """

    run_dir: Path
    total_timesteps: int
    resume_step: int | None = None
    title: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the run among others, as TensorBoard lists it: ``rltrain-CartPole-v1/ppo_3``."""
        return f"{self.run_dir.parent.name}/{self.run_dir.name}"


class Tracker(ABC):
    """Writes everything about one run to one place: files, the terminal, a service.

    A tracker is made when its run starts or resumes, and closed when the run ends. A subclass must define :meth:`log`;
    it overrides the other methods as it needs them.

    All calls come from one thread, in this order: ``hparams``, ``text`` with the configuration and ``layout``, then any
    method any number of times, then ``finish`` at most once, and ``close``. Values may be NaN or infinite. If a
    tracker raises, a warning names it, it is not called again, and the run goes on. A tracker may draw random numbers
    from the process's global generators without changing training.

    Args:
        run: The run to track.
    """

    def __init__(self, run: RunInfo) -> None:
        self.run = run

    @abstractmethod
    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds metrics at a step.

        Args:
            metrics: Values by tag, such as ``rollout/ep_rew_mean``. The tags may change from call to call.
            step: Environment steps so far, over all environments. It never goes back; several calls may share one.
        """

    def advance(self, step: int) -> None:
        """Takes the steps so far between two updates, at most once a second: for trackers that show progress.

        Args:
            step: Environment steps so far, over all environments. Learning is behind: metrics come with :meth:`log`.
        """

    def image(self, tag: str, image: NDArray[np.uint8], step: int) -> None:
        """Adds a picture (height, width, 3), red, green, blue from 0 to 255."""

    def video(self, path: Path, step: int) -> None:
        """Adds a film of an episode: an mp4 file in the run's folder."""

    def artifact(self, path: Path, kind: str) -> None:
        """Adds a file or folder that the run has written.

        Args:
            path: Where it is. The run may delete a checkpoint when it has newer ones.
            kind: ``checkpoint`` or ``learning_curve``.
        """

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int) -> None:
        """Adds the distribution of some numbers, an array of any shape."""

    def text(self, tag: str, text: str, step: int) -> None:
        """Adds a text, in Markdown."""

    def hparams(self, values: Mapping[str, bool | float | str]) -> None:
        """Takes the hyperparameters by dotted name, such as ``agent.learning_rate``; None is left out."""

    def layout(self, charts: Mapping[str, Mapping[str, list[str]]]) -> None:
        """Takes charts to draw: by heading and title, the tags that share a chart, as regular expressions."""

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Takes the final metrics of a run that completed or was stopped in good order; not called after a failure.

        Args:
            metrics: The last value of each metric, for services that keep a summary beside the curves. Most of them
                were logged before, at the step they belong to.
        """

    def close(self) -> None:
        """Writes what is left and releases files and connections, also after a failure. A second call does nothing."""
