"""Measures rltrain on a GPU within the seconds that it is given, and checks that what it computes is right.

The most important rows come first. A row whose time does not fit any more is skipped, one that fails says why, and
DIR/gpu.json is whole after each. Ends with 1 where a check or a row failed.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import Report, outcome
from benchmarks.gpu.rows import GUESSES, MINI_GUESS, Row, rows
from benchmarks.gpu.worker import Worker

ROOT = Path(__file__).parents[2]
END = 2.0  # seconds that the last lines may take
OFFLINE = """\
On a machine without a network, with Python 3.12, torch, NumPy, TensorBoard, matplotlib, Pillow, safetensors, psutil,
rich and PyYAML, and JAX for the loop beside ours:

  1. where there is a network, in the root of the repository:
       python -m benchmarks.gpu.wheels wheels --python 3.12
     puts the project's own wheel into the folder `wheels`, and those such a machine lacks: Gymnasium, pydantic and
     what the two need, and filelock; a few MiB together
  2. bring the repository and that folder to the machine. The links rltrain/agents, rltrain/configs and rltrain/envs
     must still be links, or copies of the folders agents, configs and envs
  3. there, in the root of the repository:
       python3 -m pip install --no-index --no-deps --target site wheels/*.whl
       PYTHONPATH=site python3 -m benchmarks.gpu --seconds 400 --out gpu_out --commit ID
  4. bring gpu_out/gpu.json back as benchmarks/results/gpu.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rows and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        epilog=OFFLINE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=400.0, help="to end within [400]")
    parser.add_argument("--out", type=Path, default=Path("gpu_out"), metavar="DIR", help="for gpu.json [gpu_out]")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the command [cuda]")
    parser.add_argument("--mini", action="store_true", help="tiny sizes, and no Inductor: to try the command")
    parser.add_argument("--commit", help="of the copy of the repository [what git says]")
    parsed = parser.parse_args(arguments)
    if not (ROOT / "rltrain" / "envs" / "__init__.py").is_file():
        parser.error("rltrain/envs is no link to the folder envs: make the links again, as --help says.")
    clock = Clock(parsed.seconds)
    about = {
        "commit": parsed.commit or commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": parsed.device,
        "mini": parsed.mini,
        "seconds": parsed.seconds,
    }
    report = Report(parsed.out, about)
    worker = Worker(parsed.device, parsed.mini)
    try:
        machine = worker.ask("benchmarks.gpu.machine:describe", {}, clock.left)
        machine["ready_s"] = machine.pop("took_s")
        report.update(**machine)
        if "error" in machine:
            print(f"Nothing can be measured on '{parsed.device}': {machine['error']}", file=sys.stderr)
            print("Fix: bring what is missing, as --help says, or try it by --device cpu --mini.", file=sys.stderr)
            return 1
        run(rows(mini=parsed.mini), report, worker, clock)
        if clock.left > END:
            report.update(packages=worker.ask("benchmarks.gpu.machine:packages", {}, clock.left).get("packages"))
    finally:
        worker.close()
    print(f"\n{report.save_table()}\n{parsed.out / 'gpu.json'}, after {clock.passed:.0f} s", flush=True)
    if report.failed:
        print(f"Failed: {'; '.join(report.failed)}", file=sys.stderr)
    return 1 if report.failed else 0


class Clock:
    """The seconds until the command has to be over.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.began = seconds, time.perf_counter()

    @property
    def passed(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """For rows: what the end takes is kept back."""
        return self.seconds - END - self.passed


def run(todo: list[Row], report: Report, worker: Worker, clock: Clock) -> None:
    """One row after the other, each kept and printed at once."""
    guesses = dict.fromkeys(GUESSES, MINI_GUESS) if report.figures["mini"] else dict(GUESSES)
    measured: dict[str, float] = {}  # seconds of the slowest row of a kind
    for row in todo:
        expected = measured.get(row.kind, guesses[row.kind])
        result = {"skipped": reason} if (reason := unfit(row, report.figures, expected, clock.left)) else None
        if result is None:
            patience = 60 + 4 * expected  # one that hangs leaves time to the others
            limit = clock.left if report.figures["mini"] else min(clock.left, patience)
            result = worker.ask(row.work, row.options, limit)
            if "error" not in result:
                measured[row.kind] = max(measured.get(row.kind, 0.0), result["took_s"])
            elif clock.left <= 0:
                result = {"skipped": "the time was over before it was done"}
        report.add(row.name, result)
        rate = f"{result['steps_per_s']:,} steps/s " if "steps_per_s" in result else ""
        print(f"[{clock.passed:4.0f} s] {row.name}: {rate}{outcome(result)}", flush=True)


def unfit(row: Row, about: dict[str, Any], expected: float, left: float) -> str:
    """Why a row is skipped; empty if it is not."""
    if "cuda" in row.needs and not about["device"].startswith("cuda"):
        return "it needs a GPU with CUDA"
    if "jax" in row.needs and about["jax"] is None:
        return "JAX is not installed"
    if expected > left:
        return f"it takes about {expected:.0f} s, and {max(left, 0):.0f} s are left"
    return ""


def commit() -> str:
    """The commit of the repository, where git is there to be asked; with a plus where files were changed."""
    git: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 10, "check": True}
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], **git).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain"], **git).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


if __name__ == "__main__":
    sys.exit(main())
