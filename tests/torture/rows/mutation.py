"""Row 10: realistic faults in a copy of the tree, one at a time, and whether the tests notice."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture.frame import Case, Outcome, Row

ROOT = Path(__file__).parents[3]
COPIED = ("agents", "benchmarks", "configs", "docs", "envs", "rltrain", "src", "tests")  # what tests read
QUICK = (
    "epsilon does not fall with the share of training that is done",
    "metrics are means over the whole run",
)
ONLY = ("-k", "ramp or means_over")  # of their tests, in the short form
PLAIN = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest", "--no-header")  # quick to start


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes:
        name: What is wrong.
        file: In which file, or the pattern of the files of a room.
        search: The text that is replaced; it occurs once.
        replace: By which.
        tests: The test files that cover it.
    """

    name: str
    file: str
    search: str
    replace: str
    tests: tuple[str, ...]


def mutants() -> list[Mutant]:
    """All of them."""
    data = tomllib.loads((Path(__file__).parents[1] / "mutants.toml").read_text(encoding="utf-8"))
    return [Mutant(**{**each, "tests": tuple(each["tests"])}) for each in data["mutant"]]


def cases(short: bool, rng: random.Random) -> Iterator[tuple[str, Case]]:
    """A case for each fault; before them, the tests of each file without any, which must pass."""
    chosen = [mutant for mutant in mutants() if not short or mutant.name in QUICK]
    options = ONLY if short else ()
    files = sorted({name for mutant in chosen for name in mutant.tests})
    for group in [files] if short else [[name] for name in files]:
        yield f"without a fault: {' '.join(group)}", partial(passes, group, options)
    for mutant in chosen:
        yield mutant.name, partial(notices, mutant, options)


def passes(tests: list[str], options: tuple[str, ...], folder: Path) -> Outcome:
    """The tests pass in a copy of the tree."""
    done = run_tests(copied(folder), tests, options)
    return Outcome(done.returncode == 0, " ".join(done.stdout.split())[-400:], {"controls": 1.0})


def notices(mutant: Mutant, options: tuple[str, ...], folder: Path) -> Outcome:
    """A test fails in a copy of the tree with the fault; nothing else may have gone wrong."""
    tree = copied(folder)
    path = place(mutant, tree)
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.search, mutant.replace), encoding="utf-8")
    done = run_tests(tree, mutant.tests, options)
    noticed = done.returncode == 1
    return Outcome(noticed, "" if noticed else f"pytest left with {done.returncode}", {"noticed": float(noticed)})


def place(mutant: Mutant, tree: Path) -> Path:
    """The file that has the text of a fault, once and alone."""
    counts = {path: path.read_text(encoding="utf-8").count(mutant.search) for path in tree.glob(mutant.file)}
    assert sum(counts.values()) == 1, f"its text is {sum(counts.values())} times in {mutant.file}"
    return max(counts, key=lambda path: counts[path])


def copied(folder: Path) -> Path:
    """A copy of all that tests need, links as links."""
    tree = folder / "tree"
    tree.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, tree / path.name)
    return tree


def run_tests(tree: Path, tests: list[str] | tuple[str, ...], options: tuple[str, ...]) -> subprocess.CompletedProcess:
    """Runs tests of a tree on the package in it, up to the first that fails."""
    known = os.environ.get("PYTHONPATH")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), *([known] if known else [])])}
    where = [sys.executable, "-c", "import rltrain.schedules; print(rltrain.schedules.__file__)"]
    found = subprocess.run(where, cwd=tree, env=env, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found).resolve().is_relative_to(tree.resolve()), f"the tests would import {found}"
    command = [sys.executable, "-m", "pytest", "-x", "-q", *PLAIN, *tests, *options]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)


def summary(figures: list[dict[str, float]]) -> str:
    """How many were noticed."""
    told = [each["noticed"] for each in figures if "noticed" in each]
    return f"{int(sum(told))} of {len(told)} noticed"


ROW = Row(
    10,
    "realistic faults in the code, one at a time",
    "at least 58 of 60 noticed by the tests that cover them",
    cases,
    {"^without a fault": 12, "^": 60},
    seconds=900.0,
    summary=summary,
)
