"""A study of Optuna that several processes, on several machines, can share."""

from __future__ import annotations

import math
import os
import re
import socket
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psutil

from rltrain.errors import ConfigError
from rltrain.naming.installed import need
from rltrain.rng import derive_seed
from rltrain.search.journal import JournalLock, mend_journal
from rltrain.search.request import SweepRequest
from rltrain.storage.files import reason

if TYPE_CHECKING:
    import optuna

JOURNAL = "study.journal"
SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "halving", "none")
FACTS, PROCESS, RETRIES, ERROR, SCORES = "rltrain", "process", "retries", "error", "scores"
MOST_RETRIES = 2
"""How often a trial is begun again that no one goes on with."""
ALIVE_EVERY, SILENT = 30.0, 300.0
"""Seconds between two signs of life of a process, and after which another machine takes it for dead."""


def need_optuna() -> None:
    """Raises an error without Optuna.

    Raises:
        ConfigError: It is not installed.
    """
    need("optuna", install="rltrain[sweep]")


class Study:
    """A study, and this process's share in it.

    Args:
        request: The sweep.

    Raises:
        ConfigError: The storage cannot be used, or holds a study of another sweep by this name.
    """

    def __init__(self, request: SweepRequest) -> None:
        need_optuna()
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._states = optuna.trial.TrialState
        self._request = request
        self.process = f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"
        self._signed = 0.0
        try:
            storage = _storage(request)
            made = request.name not in [each.study_name for each in optuna.get_all_study_summaries(storage)]
            self.optuna = optuna.create_study(
                storage=storage, study_name=request.name, direction="maximize", load_if_exists=True
            )
        except Exception as error:
            where = hidden(request.storage) if request.storage else f"'{request.out / JOURNAL}'"
            why = hidden(reason(error)).rstrip(".")
            fix = f"Give another --{'storage' if request.storage else 'out'}."
            raise ConfigError(f"The study in {where} cannot be used: {why}.", fix) from error
        self._check(request.facts())
        self._check_trials()
        who = () if made else (self.process, len(self.optuna.trials))  # others draw other numbers than the first
        self.optuna.sampler = _sampler(request, derive_seed(request.config().seed, "sampler", *who) % 2**32)
        self.optuna.pruner = _pruner(request)
        self.sign()

    def _check(self, facts: Mapping[str, Any]) -> None:
        known = self.optuna.user_attrs.get(FACTS)
        if known is None:
            self.optuna.set_user_attr(FACTS, facts)
            return
        known = known if isinstance(known, dict) else {}
        for name, value in facts.items():
            other = _difference(known.get(name), value)
            if other is not None:
                raise ConfigError(
                    f"The study '{self._request.name}' was begun with {'another' if name != 'seeds' else 'other'} "
                    f"{name}{other}.",
                    "Give what it was begun with, or another --out for a new one.",
                )

    def _check_trials(self) -> None:
        """Checks that the trials that are there are those of a sweep over this space.

        Raises:
            ConfigError: One is not.
        """
        for trial in self.optuna.get_trials(deepcopy=False):
            try:
                self._request.space.settings(trial.params)
                done = trial.state == self._states.COMPLETE
                if done and not (math.isfinite(trial.value or 0.0) and scores_of(trial)):
                    raise ValueError("it has no scores")
            except (ValueError, TypeError, LookupError) as error:
                raise ConfigError(
                    f"Trial {trial.number} of the study '{self._request.name}' is none of this sweep.",
                    "Give another --out for a new one.",
                ) from error

    def counts(self) -> dict[str, int]:
        """How many trials there are by state: ``complete``, ``pruned``, ``running``, ``waiting``, ``fail``."""
        trials = self.optuna.get_trials(deepcopy=False)
        return {state.name.lower(): sum(trial.state == state for trial in trials) for state in self._states}

    @property
    def wants_more(self) -> bool:
        """Whether another trial is to be begun."""
        counts = self.counts()
        return counts["complete"] + counts["pruned"] + counts["running"] < self._request.trials

    def ask(self) -> tuple[optuna.Trial, dict[str, Any]]:
        """A new trial, and the values drawn for it."""
        trial = self.optuna.ask()
        trial.set_user_attr(PROCESS, self.process)
        return trial, self._request.space.draw(trial)

    def complete(self, trial: optuna.Trial, scores: Mapping[str, float]) -> float:
        """Ends a trial with the scores of its seeds, and returns their mean, its value."""
        value = sum(scores.values()) / len(scores)
        trial.set_user_attr(SCORES, dict(scores))
        self.optuna.tell(trial, value)
        return value

    def prune(self, trial: optuna.Trial, error: str | None = None) -> None:
        """Ends a trial that was not worth going on with, or could not be trained."""
        if error is not None:
            trial.set_user_attr(ERROR, error)
        self.optuna.tell(trial, state=self._states.PRUNED)

    def again(self, trial: optuna.Trial | optuna.trial.FrozenTrial, *, interrupted: bool = False) -> bool:
        """Marks a trial as failed, and lets it be begun anew; returns False if that has been tried often enough."""
        before = trial.user_attrs.get(RETRIES)
        retries = (before if type(before) is int else 0) + (not interrupted)
        try:
            self.optuna.tell(trial.number, state=self._states.FAIL)
        except (ValueError, RuntimeError):  # another process was faster
            return True
        if not trial.params or retries > MOST_RETRIES:
            return False
        self.optuna.enqueue_trial(trial.params, user_attrs={RETRIES: retries})
        return True

    def sign(self) -> None:
        """Gives a sign of life, and begins anew the trials of processes that give none."""
        now = time.time()
        if now - self._signed < ALIVE_EVERY:
            return
        self._signed = now
        self.optuna.set_user_attr(f"alive {self.process}", now)
        for trial in self.optuna.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
            if not self._is_alive(trial, now):
                self.again(trial)
                self._request.clear(trial.number)

    def _is_alive(self, trial: optuna.trial.FrozenTrial, now: float) -> bool:
        process = trial.user_attrs.get(PROCESS)
        if process == self.process:
            return True
        host, _, rest = str(process).partition(":")
        if host == socket.gethostname():
            pid, _, began = rest.partition(":")
            try:
                return f"{psutil.Process(int(pid)).create_time():.0f}" == began
            except (psutil.Error, ValueError):
                return False
        begun = trial.datetime_start.timestamp() if trial.datetime_start else now
        alive = self.optuna.user_attrs.get(f"alive {process}")
        return now - max(begun, alive if isinstance(alive, float) else 0.0) < SILENT


def scores_of(trial: optuna.trial.FrozenTrial) -> dict[str, float]:
    """The scores of a trial's seeds; empty if it has none.

    Raises:
        TypeError: They are none.
    """
    scores = trial.user_attrs.get(SCORES, {})
    return {str(seed): float(score) for seed, score in dict(scores).items()}


def _storage(request: SweepRequest) -> Any:
    from optuna.storages import JournalStorage, RDBStorage

    if request.storage is not None:
        return RDBStorage(request.storage)
    from optuna.storages.journal import JournalFileBackend

    path = request.out / JOURNAL
    mend_journal(path)
    lock: Any = JournalLock(path)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _sampler(request: SweepRequest, seed: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    if request.sampler == "random":
        return RandomSampler(seed=seed)
    first = min(10, max(4, request.trials // 4))
    return TPESampler(seed=seed, n_startup_trials=first, multivariate=True, group=True, constant_liar=True)


def _pruner(request: SweepRequest) -> optuna.pruners.BasePruner:
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if request.pruner == "none":
        return NopPruner()
    if request.pruner == "halving":
        return SuccessiveHalvingPruner()
    return MedianPruner(n_startup_trials=5, n_min_trials=3)


def hidden(text: str) -> str:
    """A text without the passwords of URLs."""
    return re.sub(r"://[^/@\s]*@", "://...@", text)


def _difference(known: Any, value: Any) -> str | None:
    """The first thing that differs, in words; None if nothing does.

    Settings that only one of them has are passed over: they came or went with a version of rltrain.
    """
    if isinstance(known, dict) and isinstance(value, dict):
        for name in value:
            if name in known and (inner := _difference(known[name], value[name])) is not None:
                return f": {name}{inner}"
        return None
    if known == value:
        return None
    return f" ({known!r}, now {value!r})" if len(f"{known!r}{value!r}") < 80 else ""
