"""Rows of the scorecard: cases that each hold or do not, run one process a case, and stored as they end.

A row has three forms: a short one, for the test suite; the usual one, which takes all cases of its target and a sample
of the others; and every case.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import pkgutil
import random
import re
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rltrain.process.early import die_with

RESULTS = Path(__file__).parents[2] / "build" / "torture"


@dataclass(frozen=True)
class Outcome:
    """What a case came to.

    Attributes:
        held: Whether everything was as it must be.
        note: What was not, in a line.
        figures: Numbers for the row's summary.
    """

    held: bool
    note: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)


Case = Callable[[Path], Outcome | None]  # gets an empty folder; None means that it held, and an AssertionError not


@dataclass(frozen=True)
class Row:
    """A row of the scorecard.

    Attributes:
        number: Its number.
        name: What is tried, in a few words.
        target: What must hold, in words.
        cases: From whether the form is short and a generator of random numbers to the cases by their keys. The same
            seed gives the same keys: a stored case is not run again.
        samples: From a regular expression to how many of the cases whose keys match it are taken, unless all are asked
            for: drawn by the seed. Cases that match none are all taken; one that matches several counts for the first.
        seconds: After which a case counts as hanging.
        jobs: Cases that may run at the same time.
        summary: From the figures of all cases to a line for the table.
    """

    number: int
    name: str
    target: str
    cases: Callable[[bool, random.Random], Iterator[tuple[str, Case]]]
    samples: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 120.0
    jobs: int = 2
    summary: Callable[[list[dict[str, float]]], str] = lambda figures: ""


def rows() -> dict[int, Row]:
    """All rows, by number: one module of ``rows`` each, with a global ``ROW``."""
    package = importlib.import_module("tests.torture.rows")
    modules = (
        importlib.import_module(f"tests.torture.rows.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    )
    return {row.number: row for row in sorted((module.ROW for module in modules), key=lambda row: row.number)}


def run(
    row: Row,
    *,
    short: bool,
    seed: int,
    results: Path,
    whole: bool = False,
    jobs: int | None = None,
    only: str = "",
    report: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Runs the cases of a row that are not stored yet, or ``only`` some, and returns what is stored of all.

    Unless it is to be ``whole``, of the cases that are extra only a sample is run.

    Every case runs in a process of its own, forked from this one, in an empty folder that is removed afterwards.
    """
    file = results / f"{row.number:02}-{'short' if short else 'long'}-{seed}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    stored = {x["case"]: x for x in map(json.loads, file.read_text().splitlines())} if file.exists() else {}
    every = dict(row.cases(short, random.Random(seed)))
    chosen = [*every] if short or whole else sample([*every], row.samples, seed)
    todo = [(key, every[key]) for key in chosen if key not in stored and re.search(only, key)]
    for key, seconds, processor, outcome in _in_processes(todo, jobs or row.jobs, row.seconds):
        times = {"seconds": round(seconds, 2), "processor": round(processor, 2)}
        stored[key] = {"case": key, **times, **asdict(outcome)}
        with file.open("a") as lines:
            print(json.dumps(stored[key]), file=lines)
        if not outcome.held:
            report(f"row {row.number}: {key}: {outcome.note}")
    return [*stored.values()]


def sample(keys: list[str], samples: Mapping[str, int], seed: int) -> list[str]:
    """The keys of the cases that are run unless all are asked for, in the same order; see :class:`Row`."""
    kinds = {key: next((kind for kind in samples if re.search(kind, key)), None) for key in keys}
    taken = {key for key in keys if kinds[key] is None}
    for kind, number in samples.items():
        extra = [key for key in keys if kinds[key] == kind]
        taken |= {*random.Random(f"{seed} {kind}").sample(extra, min(number, len(extra)))}
    return [key for key in keys if key in taken]


def table(stored: Mapping[int, list[dict[str, Any]]]) -> str:
    """The scorecard as a Markdown table."""
    lines = ["| row | what | target | held | processor | figures |", "| --- | --- | --- | --- | --- | --- |"]
    for number, cases in stored.items():
        row = rows()[number]
        held = sum(case["held"] for case in cases)
        summary = row.summary([case["figures"] for case in cases])
        minutes = sum(case.get("processor", 0.0) for case in cases) / 60
        lines.append(
            f"| {number} | {row.name} | {row.target} | {held} of {len(cases)} | {minutes:.1f} min | {summary} |"
        )
    return "\n".join(lines)


def _in_processes(
    cases: list[tuple[str, Case]], jobs: int, limit: float
) -> Iterator[tuple[str, float, float, Outcome]]:
    context = multiprocessing.get_context("fork")
    waiting, running = list(reversed(cases)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            key, case = waiting.pop()
            folder = Path(tempfile.mkdtemp(prefix="torture-"))
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(case, folder, theirs, os.getpid()))
            process.start()
            theirs.close()
            running[ours] = key, process, folder, time.monotonic()
        ready = wait(running, timeout=0.2)
        for pipe in [*running]:
            key, process, folder, began = running[pipe]
            seconds = time.monotonic() - began
            if pipe in ready:
                processor, outcome = _received(pipe)
            elif seconds > limit:
                processor, outcome = 0.0, Outcome(False, f"did not end within {limit:g} s")
                process.kill()
            else:
                continue
            del running[pipe]
            process.join()
            shutil.rmtree(folder, ignore_errors=True)
            yield key, seconds, processor, outcome


def _received(pipe: Connection) -> tuple[float, Outcome]:
    try:
        processor, outcome = pipe.recv()
        return processor, Outcome(**outcome)
    except EOFError:
        return 0.0, Outcome(False, "its process died")


def _child(case: Case, folder: Path, pipe: Connection, parent: int) -> None:
    die_with(parent)
    try:
        outcome = case(folder) or Outcome(True)
    except AssertionError as error:
        outcome = Outcome(
            False, " ".join(str(error).split())[:500] or traceback.format_exc(limit=-1).strip().replace("\n", " ")
        )
    except BaseException as error:  # a case that breaks did not hold
        outcome = Outcome(False, f"{type(error).__name__}: {error}"[:500])
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    pipe.send((sum(each.ru_utime + each.ru_stime for each in used), asdict(outcome)))
