"""The loop, once: collect, check, drift, train, register, promote. Whatever kills it, the next call goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rltrain.errors import ConfigError, RLTrainError, RunError
from rltrain.model_registry.contents import read_key
from rltrain.model_registry.store import CHAMPION, Registry
from rltrain.process.stopping import Stopped
from rltrain.retraining.cycle import FAILED, Cycle, cycles_in
from rltrain.retraining.policy_file import PolicyFile, read_policy_file
from rltrain.retraining.steps import STEPS, Ended, Work
from rltrain.runs.lock import FolderLock
from rltrain.settings import validate
from rltrain.storage.files import check_folder, reason

OUTCOMES = {
    "promoted": "the new version is the champion",
    "refused": "the new version did not pass the gate",
    "no drift": "nothing has changed",
    "too few episodes": "there are too few new episodes",
    "bad data": "the episodes are unfit",
}
NEEDS_A_PERSON = ("refused", "bad data")


@dataclass(frozen=True)
class Outcome:
    """How a cycle ended.

    Attributes:
        cycle: The cycle.
        name: One of :data:`OUTCOMES`.
    """

    cycle: Cycle
    name: str

    @property
    def exit_code(self) -> int:
        """1 where a person should look, else 0."""
        return int(self.name in NEEDS_A_PERSON)


def retrain(
    file: str | Path,
    *,
    tell: Callable[[str], None] = lambda line: None,
    env: Any = None,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Runs the loop once, or goes on with a cycle that was stopped: each step that is done is not done again.

    Args:
        file: The policy file.
        tell: Called with a line before and after each step.
        env: The environment, where its id is not registered here.
        clock: The time in seconds since 1970.

    Raises:
        ConfigError: The policy file does not fit, or there is no champion.
        DatasetError: The logs or the reference cannot be used.
        RunError: Another process runs the loop, or training failed.
        Stopped: A signal asked for it; the next call goes on.
    """
    settings = read_policy_file(file)
    folder = Path(str(settings.folder))
    registry = Registry(settings.registry, settings.model, read_key(settings.key_file))
    champion = registry.state()["aliases"].get(CHAMPION)
    if champion is None:
        fix = f"rltrain models register {settings.model} RUN, and then: rltrain models promote {settings.model}"
        raise ConfigError(f"'{settings.model}' in '{settings.registry}' has no champion.", fix)
    lock = _lock(folder)
    try:
        before = cycles_in(folder)
        if before and before[-1].outcome is None:
            cycle = before[-1]
            settings = validate(PolicyFile, cycle.state["settings"])
            tell(f"cycle {cycle.number}: going on")
        else:
            facts: dict[str, Any] = {"settings": settings.model_dump(mode="json", exclude_unset=True)}
            facts |= {"champion": champion, "until": clock(), "since": _since(before)}
            cycle = Cycle.begin(folder, before[-1].number + 1 if before else 1, **facts)
            tell(f"cycle {cycle.number}: version {champion} of {settings.model} is the champion")
        return _run(Work(cycle, settings, folder, registry, env, tell))
    finally:
        lock.release()


def _run(work: Work) -> Outcome:
    cycle = work.cycle
    try:
        for name, step in STEPS.items():
            if cycle.result(name) is None:
                work.tell(f"{name} ...")
                facts, said = step(work)
                cycle.done(name, facts)
                work.tell(f"{name}: {said}")
    except Ended as end:
        cycle.done(end.step, end.facts)
        cycle.end(end.outcome)
        work.tell(f"{end.step}: {end.said}")
    except Stopped:
        raise
    except RLTrainError as error:  # trying the same again would fail again; the next call begins a new cycle
        with suppress(RunError):
            cycle.fail(str(error))
        raise
    else:
        cycle.end("promoted")
    assert cycle.outcome is not None
    work.tell(f"cycle {cycle.number}: {cycle.outcome}, {OUTCOMES[cycle.outcome]}")
    return Outcome(cycle, cycle.outcome)


def _since(before: list[Cycle]) -> float | None:
    """Until when decisions were taken by cycles before; those of one with too few, or an error, are taken again."""
    took = [each for each in before if each.outcome not in ("too few episodes", FAILED)]
    return max((float(each.state["until"]) for each in took), default=None)


def _lock(folder: Path) -> FolderLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_folder(folder)
    except OSError as error:
        raise RunError(f"'{folder}' cannot be written: {reason(error)}.", "Name another folder.") from error
    lock = FolderLock(folder)
    lock.acquire()
    return lock
