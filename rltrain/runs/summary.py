"""A run as lists, plots and reports see it: its settings, what it came to, and its curves; whatever of it is broken."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rltrain.config import EnvConfig, TrainConfig
from rltrain.errors import CheckpointError, ConfigError, RLTrainError
from rltrain.registry import agent_config_class
from rltrain.runs.config_file import ConfigFile
from rltrain.runs.folder import RunFolder
from rltrain.runs.lock import FolderLock
from rltrain.runs.metadata import Metadata
from rltrain.runs.places import find_runs
from rltrain.settings import YAML_LIMIT, canonical, parse_yaml
from rltrain.storage.files import Damaged, read_text
from rltrain.trackers.csv import STEP, read_progress

NOT_SETTINGS = (
    *("run_dir", "fallback_dir", "if_save_fails", "save_freq", "keep_checkpoints", "video_freq", "video_captions"),
    *("trackers", "log_interval", "log_format", "log_info", "histogram_freq", "health", "cost", "max_cost"),
)
"""Options that say where a run is written and shown, which does not change what it learns."""
RUNNING, KILLED, BROKEN = "running", "killed", "broken"
TRAINING_RETURN, EVALUATION_RETURN = "rollout/ep_rew_mean", "eval/mean_reward"


@dataclass(frozen=True)
class RunSummary:
    """What a run folder says.

    Attributes:
        path: The run folder.
        settings: Its ``config.yaml`` by dotted names, such as ``agent.gamma``, without :data:`NOT_SETTINGS`.
        metadata: Its ``metadata.json``; empty if it is lost.
        problem: What of it cannot be read, in a sentence; empty if nothing.
        fix: What to do about that.
    """

    path: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    fix: str = ""

    @property
    def agent(self) -> str:
        """The name of its agent."""
        return str(self.settings.get("algo", ""))

    @property
    def env(self) -> str:
        """The id of its environment."""
        return str(self.settings.get("env.id", ""))

    @property
    def seed(self) -> int | None:
        """Its seed."""
        return _whole(self.settings.get("seed"))

    @cached_property
    def status(self) -> str:
        """``running``, ``killed`` (no process trains it), ``completed``, ``interrupted``, ``failed`` or ``broken``."""
        if self.problem:
            return BROKEN
        status = str(self.metadata.get("status", RUNNING))  # a run that is just being set up has none
        return KILLED if status == RUNNING and not FolderLock(self.path).is_held() else status

    @property
    def progress(self) -> Mapping[str, list[float]]:
        """The columns of its ``progress.csv``; empty if there is none, or none that can be read."""
        return self._table[0]

    @property
    def no_progress(self) -> str:
        """Why it has no progress, in a sentence; empty if it has some."""
        return self._table[1]

    @cached_property
    def _table(self) -> tuple[Mapping[str, list[float]], str]:
        try:
            return read_progress(self.path / "progress.csv"), ""
        except CheckpointError as error:
            return {}, error.cause

    def last(self, tag: str) -> float | None:
        """The last finite value of a metric."""
        return next((value for value in reversed(self.progress.get(tag, [])) if math.isfinite(value)), None)

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        """The summary of the evaluation at the end; empty if there was none, or the run has gone on since."""
        found = self.metadata.get("evaluation") if self.metadata.get("status") == "completed" else None
        return found if isinstance(found, Mapping) and _number(found.get("mean_reward")) is not None else {}

    @property
    def score(self) -> float | None:
        """The mean return of the evaluation at the end."""
        return _number(self.evaluation.get("mean_reward"))

    @property
    def steps(self) -> int | None:
        """Environment steps, as far as is recorded."""
        last = self.last(STEP)
        recorded = _whole(self.metadata.get("steps"))
        return int(last) if last is not None and (recorded is None or self._unfinished) else recorded

    @property
    def seconds(self) -> float | None:
        """Seconds of training, as far as is recorded."""
        recorded = _number(self.metadata.get("seconds"))
        return self.last("time/time_elapsed") if recorded is None or self._unfinished else recorded

    @property
    def _unfinished(self) -> bool:
        """Whether what its metadata say of the outcome, if anything, is of an earlier session."""
        return self.metadata.get("status") not in ("completed", "interrupted")


def read_run(path: Path) -> RunSummary:
    """Reads a run folder. Its name need not be that of a whole run; see ``problem``."""
    try:
        folder, _ = RunFolder.open(path)
        settings = _settings(folder.path)
    except RLTrainError as error:
        return RunSummary(path, problem=error.cause, fix=error.fix)
    try:
        metadata = Metadata(folder.path).read()
    except CheckpointError as error:
        return RunSummary(folder.path, settings, problem=error.cause, fix=error.fix)
    return RunSummary(folder.path, settings, metadata)


def read_runs(paths: Iterable[str | Path]) -> list[RunSummary]:
    """Reads run folders, and all that are in folders of runs, each once.

    Raises:
        CheckpointError: There is no such folder, or one holds no runs.
    """
    found: dict[Path, Path] = {}
    for name in paths:
        path = Path(name)
        if not path.is_dir():
            raise CheckpointError(f"There is no folder '{path}'.", "Runs are in 'runs/<environment>/<agent>_<k>'.")
        if path.absolute().parent.name == "checkpoints":
            path = RunFolder.open(path)[0].path
        inside = find_runs(path)
        if not inside:
            raise CheckpointError(f"There are no runs in '{path}'.", "Name a folder that 'rltrain train' made.")
        for each in inside:
            found.setdefault(each.resolve(), each)
    return [read_run(path) for path in found.values()]


def one_at_least(runs: Sequence[RunSummary]) -> list[RunSummary]:
    """The runs whose settings can be read. If there are others too, a warning names each.

    Raises:
        CheckpointError: There are only others.
    """
    kept = [run for run in runs if run.settings]
    others = [run for run in runs if not run.settings]
    if not kept:
        more = f" So it is with {len(others) - 1} more." if len(others) > 1 else ""
        raise CheckpointError(f"{others[0].problem}{more}", others[0].fix)
    for run in others:
        warnings.warn(f"'{run.path}' is left out. {run.problem}", stacklevel=2)
    return kept


def changed_settings(run: RunSummary) -> dict[str, Any]:
    """The settings that are not the defaults of training and of the agent."""
    try:
        agent = dict(_flat(agent_config_class(run.agent)().model_dump(mode="json"), "agent."))
    except (ConfigError, ValueError):  # an agent that is not installed here, or one without defaults
        agent = {}
    fields = {**TrainConfig.model_fields, **{f"env.{name}": field for name, field in EnvConfig.model_fields.items()}}
    defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()} | agent
    known = ("algo", "env.id", "seed")  # which stand elsewhere
    return {k: v for k, v in run.settings.items() if k not in known and (k not in defaults or defaults[k] != v)}


def _settings(run: Path) -> dict[str, Any]:
    """The configuration by dotted names, with the defaults of today where the file has none.

    Raises:
        RLTrainError: It cannot be read, or does not say what was trained.
    """
    try:
        data = ConfigFile(run).read().model_dump(mode="json")
    except ConfigError as error:  # an agent that is not installed here, or an option of another version
        try:
            data = canonical(parse_yaml(read_text(run / "config.yaml", YAML_LIMIT), str(run / "config.yaml")))
        except (OSError, Damaged):
            raise error from None
        env = data.get("env")
        if not isinstance(data.get("algo"), str) or not isinstance(env, Mapping) or not isinstance(env.get("id"), str):
            raise error from None
    return {name: value for name, value in _flat(data) if name.partition(".")[0] not in NOT_SETTINGS}


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _number(value: Any) -> float | None:
    """A finite number from a file; None for anything else."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None
