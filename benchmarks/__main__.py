"""Compares rltrain with its peers in stepping, training, growth and time to solve; writes ``benchmarks/README.md``.

    python -m benchmarks                                     # all of it: half an hour on two cores
    python -m benchmarks --processor avx2                    # training again, as on a processor with AVX2 alone
    python -m benchmarks --measure training                  # a part, which takes the place of older figures
    python -m benchmarks --quick                             # a few minutes, to see that it works
    python -m benchmarks --only ours sb3 --measure training  # some libraries, printed and left in runs/benchmarks
    python -m benchmarks --page-only                         # write the pages from the figures that are there

Every peer is installed into its own virtual environment under ``.venv-bench``; one that cannot be installed is left
out, with the reason. The peers take turns, each turn in a process of its own, so imports and compilation are measured
as well: what JAX and torch compile is kept for the later turns of a run, in a folder of its own. Only a run with all
peers is kept in ``benchmarks/results`` and rewrites the pages; an interrupted one leaves its figures in
runs/benchmarks. Let nothing else run meanwhile: two threads that wait for a third program are many times slower.

A processor with AVX-512 can play one without it (``--processor avx2``): torch, oneDNN, XLA and compiled code are told
so by their variables, for rltrain and its peers alike.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from typing import Any

from benchmarks import measures, peers, report, store, venvs
from rltrain.devices import cores
from rltrain.runs.machine import describe_machine

TURN = 600.0  # seconds that a turn may take
SEEDS = 5  # of solving
TRIALS = venvs.ROOT / "runs" / "benchmarks"
COMPILED = TRIALS / "compiled"  # by JAX and torch, kept over the turns of one run
PLAYED: dict[str, dict[str, str]] = {  # variables by which a processor plays a lesser one
    "native": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3",
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints the page, and keeps it after a complete run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=[*peers.PEERS], metavar="PEER", help=f"[{' '.join(peers.PEERS)}]")
    parser.add_argument("--measure", nargs="+", choices=measures.MEASURES, help="[all]")
    parser.add_argument("--processor", choices=PLAYED, default="native", help="what it plays; avx2: training [native]")
    parser.add_argument("--quick", action="store_true", help="one repeat, fewer points, shorter")
    parser.add_argument("--repeats", type=int, help="[3; 1 if quick], of solving 5 seeds")
    parser.add_argument("--cores", type=int, default=cores(), help="[all]")
    parser.add_argument("--pip-args", default="", help="added to every pip install")
    parser.add_argument("--renew", action="store_true", help="install everything anew")
    parser.add_argument("--page-only", action="store_true", help="write the pages from the figures that are there")
    parsed = parser.parse_args(arguments)
    if parsed.page_only:
        report.write(store.load("peers"), store.load("peers-avx2"))
        return
    figures = compare(parsed)
    print(report.page(figures, {}))
    if parsed.only or parsed.quick or parsed.repeats:
        report.draw(figures, TRIALS / "peers.png")
        print(f"kept in {TRIALS}; a run with all peers makes the pages", file=sys.stderr)
        return
    name = "peers" if parsed.processor == "native" else f"peers-{parsed.processor}"
    store.save(name, merged(store.load(name), figures))
    report.write(store.load("peers"), store.load("peers-avx2"))


def merged(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Kept figures with new ones in place of those of the same measures."""
    places = {key: {**kept.get(key, {}), **new[key]} for key in ("measured", "points")}
    ended = {
        label: why for label, why in kept.get("failed", {}).items() if label.split(", ")[-1] not in new["measured"]
    }
    return {**kept, **new, **places, "failed": {**ended, **new["failed"]}}


def compare(parsed: argparse.Namespace) -> dict[str, Any]:
    """All figures: the unchanged answer of the peer in each turn."""
    TRIALS.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if load > 0.3 * parsed.cores:
        print(f"The machine is busy (load {load:.1f}): no figure is worth much until it is not.", file=sys.stderr)
    names = [name for name in peers.PEERS if not parsed.only or name in parsed.only]
    pythons = {name: venvs.python_of(name, pip_args=parsed.pip_args, renew=parsed.renew) for name in names}
    skipped = {name: reason for name, (_, reason) in pythons.items() if reason}
    for name, reason in skipped.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    chosen = parsed.measure or (measures.MEASURES if parsed.processor == "native" else ("training",))
    machine = store.machine() | {"threads": parsed.cores, "load": round(load, 2), "played": parsed.processor}
    figures: dict[str, Any] = {
        "measured": {measure: {"machine": machine, "commit": describe_machine()["git_commit"]} for measure in chosen},
        "skipped": skipped,
        "failed": {},
        "points": {measure: measures.points(measure, quick=parsed.quick) for measure in chosen},
        **{measure: [] for measure in chosen},
    }
    shutil.rmtree(COMPILED, ignore_errors=True)
    for measure in chosen:
        begin = time.perf_counter()
        rows = [
            {"peer": name, "how": how, "cores": number, "turns": []}
            for name in names
            if name not in skipped
            for how in peers.PEERS[name].measures.get(measure, ())
            for number in core_counts(measure, parsed.cores)
        ]
        figures[measure] = rows
        for repeat in range(parsed.repeats or (1 if parsed.quick else SEEDS if measure == "solving" else 3)):
            for row in rows:
                python, seconds = pythons[row["peer"]][0], 0.2 if parsed.quick else 0.5
                take_turn(figures, measure, row, repeat, python, seconds, PLAYED[parsed.processor])
                figures["measured"][measure]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
                (TRIALS / "peers.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def take_turn(
    figures: dict[str, Any],
    measure: str,
    row: dict[str, Any],
    repeat: int,
    python: str,
    seconds: float,
    played: dict[str, str],
) -> None:
    """One turn of a peer, added to its row; a row that failed gets no more turns."""
    label = f"{report.name_of(row)}, {measure}"
    if label in figures["failed"]:
        return
    begin = time.perf_counter()
    try:
        row["turns"].append(ask(row, measure, figures["points"][measure], repeat, python, seconds, played))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        figures["failed"][label] = " ".join(str(error).split())[:300]
    print(f"{label}, {repeat + 1}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)


def ask(
    row: dict[str, Any], measure: str, points: Any, seed: int, python: str, seconds: float, played: dict[str, str]
) -> dict[str, Any]:
    """The peer's answer to one request.

    Raises:
        ValueError: It failed; with its last words.
        subprocess.TimeoutExpired: It took too long.
    """
    peer = peers.PEERS[row["peer"]]
    request = {
        "module": peer.module or f"benchmarks.peers.{row['peer']}",
        "requirements": peer.requirements or ["rltrain"],
        "measure": measure,
        "how": row["how"],
        "points": points,
        "seed": seed,
        "seconds": seconds,
        "cores": row["cores"],
    }
    threads = 1 if measure == "solving" else row["cores"]  # minibatches are too small there to share them out
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": str(COMPILED / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(COMPILED / "torch"),
        **played,
    }
    done = subprocess.run(
        [python, "-m", "benchmarks.peers"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=venvs.ROOT,
        env=environment,
        timeout=TURN,
    )
    if done.returncode:
        raise ValueError(venvs.reason_in(done.stderr))
    return dict(json.loads(done.stdout.splitlines()[-1]))


def core_counts(measure: str, most: int) -> list[int]:
    """The numbers of cores to measure on; training also on one."""
    return sorted({1, most}) if measure == "training" else [most]


if __name__ == "__main__":
    main()
