"""A sweep: asks Optuna for settings, trains with them in processes, and tells it how they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rltrain.config import TrainConfig
from rltrain.errors import ConfigError, RunError
from rltrain.search.pool import Pool
from rltrain.search.ray_pool import RayPool
from rltrain.search.request import RUNS, SweepRequest
from rltrain.search.results import best_of, draw, importances, write_best, write_table
from rltrain.search.study import JOURNAL, Study, hidden, scores_of
from rltrain.settings import to_yaml
from rltrain.storage.files import check_folder, reason
from rltrain.training.signals import Interrupt

if TYPE_CHECKING:
    import optuna

MOST_ERRORS = 5
"""Trials in a row that could not be trained, with none that could, after which a sweep gives up."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended.

    Attributes:
        counts: How many trials the study has by state.
        best: Number, value and scores of the best trial; None if none is complete.
        importances: Share of each parameter in what decides the score.
        config: The file with the best settings.
        table: The file with all trials.
        picture: The picture.
        signal: Number of the signal that interrupted it.
    """

    counts: Mapping[str, int]
    best: Mapping[str, Any] | None
    importances: Mapping[str, float]
    config: Path | None
    table: Path | None
    picture: Path | None
    signal: int | None = None


@dataclass
class Running:
    """A trial that is being trained.

    Attributes:
        trial: The trial.
        config: Its configuration.
        tasks: Its tasks in the pool that have not ended.
        values: Evaluations by their number, and by seed.
        scores: Final scores by seed.
        pruned: Whether it is not worth going on with.
        error: Why it could not be trained.
        died: Whether a process died.
    """

    trial: optuna.Trial
    config: TrainConfig
    tasks: set[int] = field(default_factory=set)
    values: dict[int, dict[int, float]] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    pruned: bool = False
    error: str | None = None
    died: bool = False


class Sweep:
    """A sweep of this process.

    Args:
        request: The request.
        say: Called with a line whenever a trial has ended.

    Raises:
        ConfigError: Something in the request is wrong; nothing was created.
    """

    def __init__(self, request: SweepRequest, say: Callable[[str], None]) -> None:
        self._request, self._say = request, say
        request.check()
        self._tasks_of_a_trial = 1 if request.at_once else request.seeds
        size, threads = request.jobs * self._tasks_of_a_trial, request.config().num_threads or 1
        self._pool = Pool(size, threads) if request.ray is None else RayPool(size, threads, request.ray)
        try:
            request.out.mkdir(parents=True, exist_ok=True)
            check_folder(request.out / RUNS)
            self._study = Study(request)
        except OSError as error:
            self._pool.close()
            raise ConfigError(f"'{request.out}' cannot be used: {reason(error)}.", "Give another --out.") from error
        except ConfigError:
            self._pool.close()
            raise
        self._running: list[Running] = []
        self._failures: list[str] = []
        self._deaths = 0

    def run(self) -> SweepResult:
        """Runs trials until the study has as many as were asked for, or a signal comes.

        Raises:
            RunError: No trial could be trained.
        """
        request, pool = self._request, self._pool
        try:
            with Interrupt() as interrupted:
                while not interrupted():
                    while pool.free >= self._tasks_of_a_trial and self._study.wants_more and not interrupted():
                        self._begin()
                    if not self._running:
                        break
                    answer = pool.answer(POLL_SECONDS)
                    if answer is not None:
                        self._hear(answer)
                    self._study.sign()
                signal = interrupted.signal
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            pool.close()
            for each in self._running:
                with suppress(OSError):  # on the disk that has just failed
                    self._study.again(each.trial, interrupted=True)
                request.clear(each.trial.number)
        try:
            return self._result(signal)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RunError:
        where = error.filename or hidden(self._request.storage or str(self._request.out / JOURNAL))
        return RunError(
            f"'{where}' cannot be written: {reason(error)}.", "Make room; the same command goes on with the study."
        )

    def _begin(self) -> None:
        trial, drawn = self._study.ask()
        request, pool = self._request, self._pool
        try:
            config = request.config(drawn)
        except ConfigError as error:
            self._end_badly(trial, error.cause)
            return
        run_dir = str(request.run_dir(trial.number).absolute())
        config = config.model_copy(update={"run_dir": run_dir, "trackers": [], "save_freq": 0, "video_freq": 0})
        each = Running(trial, config)
        self._running.append(each)
        if request.at_once:
            each.tasks.add(pool.begin(to_yaml(config), request.seeds))
        else:
            for k in range(request.seeds):
                one = config.model_copy(update={"seed": config.seed + k, "run_dir": f"{run_dir}/{k}"})
                each.tasks.add(pool.begin(to_yaml(one), 1))

    def _hear(self, answer: dict[str, Any]) -> None:
        each = next((each for each in self._running if answer["task"] in each.tasks), None)
        if each is None:
            return
        if "value" in answer:
            self._note(each, answer)
            return
        each.tasks.discard(answer["task"])
        each.died = each.died or "died" in answer
        each.error = each.error or answer.get("error")
        each.scores |= {seed: score for seed, score in answer.get("scores", {}).items() if score is not None}
        if each.died or each.error:
            for task in each.tasks:
                self._pool.stop(task)
        if not each.tasks:
            self._running.remove(each)
            self._end(each)
            self._request.clear(each.trial.number)

    def _note(self, each: Running, answer: dict[str, Any]) -> None:
        """Reports an evaluation once all seeds have it, and stops the trial if it is not worth going on with."""
        number = answer["step"] // each.config.eval_freq
        values = each.values.setdefault(number, {})
        values[answer["seed"]] = answer["value"]
        if len(values) < self._request.seeds or each.pruned or answer["step"] >= each.config.total_timesteps:
            return
        each.trial.report(sum(values.values()) / len(values), number)
        if each.trial.should_prune():
            each.pruned = True
            for task in each.tasks:
                self._pool.stop(task)

    def _end(self, each: Running) -> None:
        trial, what = each.trial, f"trial {each.trial.number}"
        self._deaths = self._deaths + 1 if each.died else 0
        if each.died:
            then = "it is tried again" if self._study.again(trial) else "it is left out"
            self._say(f"{what}: its process died; {then}")
            if self._deaths >= MOST_ERRORS + self._request.jobs:
                raise RunError(
                    f"The processes of {self._deaths} trials in a row died.",
                    "Look whether memory is short (dmesg), or train one trial by 'rltrain train' to see why.",
                )
        elif each.pruned:
            self._study.prune(trial)
            self._say(f"{what}: pruned{self._so_far()}")
        elif each.error or len(each.scores) < self._request.seeds:
            self._end_badly(trial, each.error or "it was not evaluated")
        else:
            self._failures.clear()
            before = best_of(self._study.optuna)
            value = self._study.complete(trial, each.scores)
            best = best_of(self._study.optuna)
            if best is not None and (before is None or best.number != before.number):
                write_best(self._request, best)
            self._say(f"{what}: {value:,.1f}{self._so_far()}")

    def _end_badly(self, trial: optuna.Trial, error: str) -> None:
        self._study.prune(trial, error)
        self._failures.append(error)
        self._say(f"trial {trial.number}: could not be trained: {error}")
        if len(self._failures) >= MOST_ERRORS and best_of(self._study.optuna) is None:
            raise RunError(f"None of {len(self._failures)} trials could be trained. The last: {error}", "Mend that.")

    def _so_far(self) -> str:
        counts, best = self._study.counts(), best_of(self._study.optuna)
        so_far = "" if best is None else f"; best {best.value:,.1f} (trial {best.number})"
        return f"{so_far}; {counts['complete'] + counts['pruned']} of {self._request.trials}"

    def _result(self, signal: int | None) -> SweepResult:
        study = self._study.optuna
        best = best_of(study)
        facts, config = None, None
        if best is not None:
            config = write_best(self._request, best)
            facts = {"number": best.number, "value": best.value, "scores": scores_of(best), "params": best.params}
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():  # also those that a kill left
                self._request.clear(trial.number)
        if not self._request.keep_runs:
            with suppress(OSError):  # another process shares the folder
                (self._request.out / RUNS).rmdir()
        return SweepResult(
            self._study.counts(),
            facts,
            importances(study),
            config,
            write_table(self._request, study),
            draw(self._request, study),
            signal,
        )


def sweep(request: SweepRequest, say: Callable[[str], None] = lambda line: None) -> SweepResult:
    """Searches for the settings with the highest score; see :class:`Sweep` for what it raises."""
    return Sweep(request, say).run()
