"""Measures which speed-ups are worth their code: each beside the plain version, in turns, on two kinds of processor.

    python -m benchmarks.ablation                          # everything: about ten minutes on two quiet cores
    python -m benchmarks.ablation --only training --processor avx2 --threads 1
    python -m benchmarks.ablation --table                  # the tables of what was measured, and nothing else

``training`` measures collecting and learning on CartPole without a log, in six variants here and two of an older
commit:

- autograd alone; with tanh computed from the logistic function; with every perceptron as one node of autograd's graph;
- the agents as they are here, with losses that compute their own gradient; then also with large products by oneDNN,
  and with its tanh as well;
- the agents at commit 8dc3248, which had both, with and without oneDNN. That code runs from a ``git worktree`` that
  this command makes in a temporary folder and removes.

``compiled`` is the same with ``--compile``. ``seeds`` compares 4 and 16 seeds that learn as one with as many
processes, on two cores. ``ranks`` compares two ranks that exchange gradients through shared memory with two that do so
by gloo.

Both checkouts run at the same time, each in its own process, and take turns. On one thread, the CPU time of the process
is measured, so that other load on the machine matters less. A figure is the best of the repeats, as other load can only
slow it down. On a processor with AVX-512, ``avx2`` is emulated by ``ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2``, and by ``-march=x86-64-v3`` in compiled code; on one without, ``native`` already is AVX2.
Figures are added to those in ``benchmarks/results/ablation.json``: what this machine cannot measure stays there, with
its date.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import ranks, store
from benchmarks.measures import TRAINING
from rltrain.registry import env_spec
from rltrain.settings import tuned_defaults

BEFORE = "8dc3248"
ROOT = Path(__file__).parent.parent
PROCESSORS = {"native": {}, "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
NOW = "here"
VARIANTS = {
    "training": (
        "autograd",
        "autograd, fast tanh",
        "autograd, one node",
        NOW,
        f"{NOW}, oneDNN",
        f"{NOW}, oneDNN and its tanh",
        f"{BEFORE}, MKL",
        BEFORE,
    ),
    "compiled": ("compiled", f"{BEFORE}, compiled"),
}
SEEDS = (4, 16)


def tuned(algo: str) -> dict[str, Any]:
    """The shipped settings for CartPole."""
    settings = tuned_defaults(algo, env_spec("rltrain/CartPole-v1"))[0]
    return {"algo": algo, "num_envs": settings["num_envs"], "agent": settings["agent"]}


def of_bench(name: str) -> dict[str, Any]:
    """The settings of a point of ``python -m benchmarks``."""
    point = TRAINING[name]
    agent = {**point["agent"], "policy_kwargs": {"net_arch": point["net_arch"]}}
    return {"algo": point["algo"], "num_envs": point["num_envs"], "agent": agent}


POINTS = {
    "PPO, tuned": tuned("ppo"),
    **{name: of_bench(name) for name in TRAINING if name.startswith("PPO")},
    "PQN, tuned": tuned("pqn"),
    "DQN, tuned": tuned("dqn"),
}
STACKED = {name: POINTS[name] for name in ("PPO, tuned", "PPO, 8 x 32, 20 epochs of 1 minibatch", "PQN, tuned")}
PARTS = (*VARIANTS, "seeds", "ranks")


def main() -> None:
    """Measures, saves the figures and prints them as Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="[all]")
    parser.add_argument("--processor", nargs="+", choices=[*PROCESSORS], default=[*PROCESSORS], help="[both]")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="of torch [1 2]")
    parser.add_argument("--points", nargs="+", metavar="POINT", default=[*POINTS], help="parts of their names [all]")
    parser.add_argument("--variants", nargs="+", metavar="VARIANT", help="those of these names [all]")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a repeat [0.2]")
    parser.add_argument("--repeats", type=int, default=6, help="[6]")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parsed = parser.parse_args()
    points = {name: point for name, point in POINTS.items() if any(part in name for part in parsed.points)}
    if not parsed.table:
        with ExitStack() as stack:
            sides = {NOW: ROOT}
            if set(parsed.only) & set(VARIANTS):
                sides[BEFORE] = stack.enter_context(checkout(BEFORE))
            for processor in parsed.processor:
                for part in parsed.only:
                    if part in VARIANTS:
                        for threads in parsed.threads:
                            training(part, sides, processor, threads, points, parsed)
                    elif part == "seeds":
                        for number in SEEDS:
                            seeds(processor, number, STACKED.keys() & points, parsed)
            if "ranks" in parsed.only:
                by_ranks(min(3, parsed.repeats))
    print(tables(store.load("ablation")))


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The repository at a commit, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / commit
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--force", str(place), commit], check=True, capture_output=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True, capture_output=True)


class Worker:
    """A process in which a checkout trains."""

    def __init__(self, root: Path, processor: str, threads: int) -> None:
        env = {**os.environ, **PROCESSORS[processor], "PYTHONPATH": str(root), "OMP_NUM_THREADS": str(threads)}
        script = Path(__file__).with_name("ablation_worker.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)], cwd=root, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        march = "x86-64-v3" if processor == "avx2" else None
        self.send({"threads": threads, "march": march})
        self.capability: str = self.receive()["capability"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, request: dict[str, Any]) -> None:
        """Sends a request."""
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """Waits for an answer."""
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))


def training(
    part: str,
    roots: dict[str, Path],
    processor: str,
    threads: int,
    points: dict[str, Any],
    parsed: argparse.Namespace,
) -> None:
    """Measures the variants of a part at every point, in turns."""
    with ExitStack() as stack:
        sides = {name: stack.enter_context(Worker(root, processor, threads)) for name, root in roots.items()}
        for point, settings in points.items():
            if part == "compiled" and not point.startswith("PPO"):
                continue
            rates: dict[str, list[float]] = {
                name: [] for name in VARIANTS[part] if name in (parsed.variants or VARIANTS[part])
            }
            for _ in range(parsed.repeats):
                for variant, measured in rates.items():
                    side = sides[BEFORE if variant.startswith(BEFORE) else NOW]
                    side.send({"point": point, "settings": settings, "variant": variant, "seconds": parsed.seconds})
                    measured.append(side.receive()["rate"])
            kind = sides[NOW].capability
            keep(part, point, f"{kind}, {threads} thread{'s' * (threads > 1)}", rates)


def seeds(processor: str, number: int, points: Set[str], parsed: argparse.Namespace) -> None:
    """Measures seeds that learn as one, and as many processes on the same two cores."""
    with ExitStack() as stack:
        each = [stack.enter_context(Worker(ROOT, processor, 1)) for _ in range(number)]
        stacked = {t: stack.enter_context(Worker(ROOT, processor, t)) for t in (1, 2)}
        for point, settings in STACKED.items():
            if point not in points:
                continue
            rates: dict[str, list[float]] = {f"stacked, {t} thread{'s' * (t > 1)}": [] for t in stacked}
            rates["processes"] = []
            alone = {"point": point, "settings": settings, "variant": NOW, "seconds": 2 * parsed.seconds, "wall": True}
            together = {**alone, "settings": {**settings, "num_seeds": number}, "seconds": parsed.seconds}
            for _ in range(parsed.repeats):
                for (_, worker), measured in zip(stacked.items(), rates.values(), strict=False):
                    worker.send(together)
                    measured.append(worker.receive()["rate"])
                for worker in each:
                    worker.send(alone)
                rates["processes"].append(sum(worker.receive()["rate"] for worker in each))
            keep("seeds", point, f"{each[0].capability}, {number} seeds on 2 cores", rates)


GLOO = "from rltrain.distributed.shared_memory import SharedMemory as S; S.make = staticmethod(lambda size: None)"


def by_ranks(repeats: int) -> None:
    """Measures two ranks by shared memory and by gloo."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(GLOO)
        for num_envs in (1_024, 4_096):
            rates: dict[str, list[float]] = {"shared memory": [], "gloo": []}
            for _ in range(repeats):
                for variant, measured in rates.items():
                    os.environ["PYTHONPATH"] = folder if variant == "gloo" else ""
                    os.environ["OMP_NUM_THREADS"] = "1"
                    measured.append(ranks.rate(num_envs, 2, 49_152 // num_envs))
            keep("ranks", f"PPO, {num_envs:,} x 32, 4 epochs of 4 minibatches", "2 ranks of one thread", rates)


def keep(part: str, point: str, where: str, rates: dict[str, list[float]]) -> None:
    """Saves figures in place of older ones of the same kind, and reports them."""
    figures = store.load("ablation")
    row = figures.setdefault(part, {}).setdefault(point, {}).setdefault(where, {})
    for variant, measured in rates.items():
        row[variant] = {"steps/s": [round(rate) for rate in measured], "date": str(date.today())}
    row["machine"] = store.machine()["processor"]
    store.save("ablation", figures)
    shown = ", ".join(f"{variant} {max(measured):,.0f}" for variant, measured in rates.items())
    print(f"{part}: {point} ({where}): {shown}", file=sys.stderr, flush=True)


def tables(figures: dict[str, Any]) -> str:
    """All figures, in one table per part; those of a row have the same date unless the row gives two."""
    parts = []
    for part, by_point in figures.items():
        rows = [(point, where, row) for point, by_place in by_point.items() for where, row in by_place.items()]
        variants = list(dict.fromkeys(name for _, _, row in rows for name in row if name != "machine"))
        lines = [f"| {part} | processor, threads | {' | '.join(variants)} | date |"]
        lines.append("| --- " * (len(variants) + 3) + "|")
        for point, where, row in rows:
            cells = [f"{max(row[name]['steps/s']):,.0f}" if name in row else "" for name in variants]
            dates = sorted({row[name]["date"] for name in variants if name in row})
            lines.append(f"| {point} | {where} | {' | '.join(cells)} | {' to '.join(dates)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
