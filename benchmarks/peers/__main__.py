"""Answers one request about one peer: reads a JSON object, and prints another one as its last line.

Started by ``python -m benchmarks`` with the Python of the peer's virtual environment, in the repository's root.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Work = Callable[[], int]
SHARED = ("torch", "jax", "numpy", "gymnasium")  # packages whose versions are reported if installed


def main() -> None:
    """Reads, measures, answers."""
    with redirect_stdout(sys.stderr):  # so that output of libraries is not taken for the answer
        answer = answer_to(json.load(sys.stdin))
    print(json.dumps(answer))


def answer_to(request: dict[str, Any]) -> dict[str, Any]:
    """The figures of one turn."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    begin = time.perf_counter()
    peer = importlib.import_module(request["module"])
    answer: dict[str, Any] = {"import_seconds": round(time.perf_counter() - begin, 3)}
    how, seed = request["how"], request["seed"]
    if request["measure"] == "solving":
        answer |= peer.solving(how, seed)
        answer.setdefault("peak_mib", peak_mib())
    elif request["measure"] == "stepping":
        answer["points"] = {
            name: timed(lambda point=point: peer.stepping(how, point, seed), request["seconds"])
            for name, point in request["points"].items()
        }
    else:
        answer["points"] = {
            name: timed(lambda point=point: peer.training(how, point, seed), request["seconds"])
            for name, point in request["points"].items()
        }
    return {**answer, "versions": versions(request["requirements"])}


def timed(make: Callable[[], Work | None], seconds: float) -> dict[str, float] | None:
    """Steps per second of some work, its start-up seconds, and its memory; None if the work is None."""
    begin = time.perf_counter()
    work = make()
    if work is None:
        return None
    work()
    first = time.perf_counter() - begin
    steps, calls, begin = 0, 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        steps += work()
        calls += 1
    return {
        "steps_per_second": round(steps / passed),
        "start_seconds": round(max(first - passed / calls, 0.0), 3),
        "peak_mib": peak_mib(),
    }


def peak_mib() -> int:
    """Peak memory of this process, MiB."""
    try:  # of this program alone; getrusage also counts the process before exec
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


def versions(requirements: list[str]) -> dict[str, str]:
    """The installed versions, Python's among them."""
    found = {"python": sys.version.split()[0]}
    for name in (*(re.split(r"[=<>\[]", each)[0] for each in requirements), *SHARED):
        try:
            found[name] = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
