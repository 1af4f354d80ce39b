"""A request for a sweep, and how its trials become configurations."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rltrain.config import TrainConfig
from rltrain.errors import ConfigError
from rltrain.registry import agent_spec
from rltrain.search.space import Space
from rltrain.settings import build_config, merge
from rltrain.storage.files import remove
from rltrain.training.multi_seed import check_seeds, check_setups
from rltrain.training.request import RunRequest
from rltrain.training.setup import Setup

RUNS = "runs"
"""The folder in that of a sweep with the runs of its trials."""
EVALUATIONS = 5
"""Evaluations of a run, unless ``eval_freq`` says otherwise; the last one is the score."""
OF_THE_MACHINE = (
    *("device", "nproc", "num_threads", "run_dir", "fallback_dir", "if_save_fails", "trackers", "seed"),
    *("video_freq", "video_captions", "save_freq", "keep_checkpoints", "eval_max_seconds"),
)
"""Settings that do not decide what a trial scores, or that a sweep chooses itself."""
DEFAULTS: tuple[dict[str, Any], str] = {}, "the agent's own defaults"


@dataclass(frozen=True)
class SweepRequest:
    """A request for a sweep.

    Attributes:
        algo: The agent.
        env: Id of the environment.
        space: What is varied.
        settings: Settings of every trial, in the shape of the configuration, over which the space is laid.
        from_defaults: Whether trials start from the agent's own defaults instead of the tuned file.
        trials: How many trials the study shall have in the end, those of other processes included.
        jobs: Trials that this process runs at once.
        seeds: Seeds of each trial, from ``settings["seed"]`` on.
        out: Folder of the sweep.
        storage: URL of a database that several machines share; None for a file in the folder.
        name: Of the study.
        sampler: Name of a sampler.
        pruner: Name of a pruner.
        keep_runs: Whether the run folders of trials are kept.
        ray: Address of a cluster of Ray that trains the trials, or ``local``; None for processes of this machine.
    """

    algo: str
    env: str
    space: Space
    settings: Mapping[str, Any] = field(default_factory=dict)
    from_defaults: bool = False
    trials: int = 50
    jobs: int = 1
    seeds: int = 1
    out: Path = Path("sweeps")
    storage: str | None = None
    name: str = "sweep"
    sampler: str = "tpe"
    pruner: str = "median"
    keep_runs: bool = False
    ray: str | None = None

    def run_dir(self, number: int) -> Path:
        """The folder with the runs of a trial."""
        return self.out / RUNS / f"trial_{number:04}"

    def clear(self, number: int) -> None:
        """Removes the runs of a trial, unless they are to be kept."""
        if not self.keep_runs:
            remove(self.run_dir(number))

    def config(self, drawn: Mapping[str, Any] | None = None) -> TrainConfig:
        """The configuration of a trial, given the values drawn for it; of the untouched settings without any.

        Raises:
            ConfigError: They do not fit together.
        """
        settings = merge(self.settings, self.space.settings(drawn or {}))
        config, _ = build_config(self.algo, self.env, settings, base=DEFAULTS if self.from_defaults else None)
        return config if config.eval_freq else config.model_copy(update={"eval_freq": self._eval_freq(config)})

    @staticmethod
    def _eval_freq(config: TrainConfig) -> int:
        return max(1, config.total_timesteps // EVALUATIONS)

    @cached_property
    def source(self) -> str:
        """Where the settings under the space come from, in words."""
        return build_config(self.algo, self.env, self.settings, base=DEFAULTS if self.from_defaults else None)[1]

    def check(self) -> None:
        """Checks everything that can be checked before a trial, by making environments and agent once.

        Raises:
            ConfigError: A setting does not exist or is out of range, or agent and environment do not fit.
        """
        for parameter in self.space.parameters:
            if parameter.name.partition(".")[0] in (
                *OF_THE_MACHINE,
                "algo",
                "eval_freq",
                "n_eval_episodes",
                "total_timesteps",
            ):
                raise ConfigError(
                    f"'{parameter.name}' in '{self.space.source}' cannot be varied.",
                    "Give it as an option of the sweep: it is the same for all trials.",
                )
        for drawn in self.space.corners():
            self.config(drawn)
        self.at_once  # noqa: B018  (makes environments and agent once)

    @cached_property
    def at_once(self) -> bool:
        """Whether the seeds of a trial are trained as one batch; else each has a process of its own.

        Raises:
            ConfigError: Agent and environment do not fit.
        """
        request = RunRequest(self.config(), progress=False, num_seeds=self.seeds)
        with closing(Setup.build(request)) as setup:
            if self.seeds == 1 or not agent_spec(self.algo).stacked:
                return False
            try:
                check_seeds(request)
                check_setups([setup])
            except ConfigError:
                return False
        return True

    def facts(self) -> dict[str, Any]:
        """What must be equal for two processes to share a study, as plain data."""
        config = self.config().model_dump(mode="json")
        kept = {name: value for name, value in config.items() if name not in OF_THE_MACHINE}
        return {"space": self.space.text, "seeds": self.seeds, "first seed": self.config().seed, "settings": kept}
