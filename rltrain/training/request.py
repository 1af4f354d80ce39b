"""A request for a run, in one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rltrain.callbacks import Callback
from rltrain.config import TrainConfig
from rltrain.registry import AgentSpec, agent_spec
from rltrain.training.tracker_list import displays


@dataclass(frozen=True)
class RunRequest:
    """A request to start or continue a run.

    Attributes:
        config: The configuration.
        env_class: The environment class, if it has no registered id.
        callbacks: The user's own code that is called during training.
        progress: Whether to show progress. If not, the trackers that show it are left out.
        command: The arguments of ``rltrain`` that further ranks are started with.
        total_timesteps: Environment steps to stop at, if not those of the configuration.
        checkpoint: The checkpoint to continue from; None for a new run.
        num_seeds: How many runs train at once, each with a seed of its own.
    """

    config: TrainConfig
    env_class: type | None = None
    callbacks: Sequence[Callback] = ()
    progress: bool = True
    command: Sequence[str] | None = None
    total_timesteps: int | None = None
    checkpoint: Path | None = None
    num_seeds: int = 1

    @cached_property
    def agent(self) -> AgentSpec:
        """The agent, as it is registered."""
        return agent_spec(self.config.algo)

    @property
    def env(self) -> str | type:
        """The environment: an id, or a class."""
        return self.env_class or self.config.env.id

    @property
    def total(self) -> int:
        """Environment steps to stop at."""
        return self.config.total_timesteps if self.total_timesteps is None else self.total_timesteps

    @property
    def shows(self) -> bool:
        """Whether progress is shown."""
        return self.progress and bool(displays(self.config.trackers))

    @property
    def trackers(self) -> list[str]:
        """The trackers to make, by name."""
        left_out = () if self.progress else displays(self.config.trackers)
        return [name for name in self.config.trackers if name not in left_out]
