"""What ``benchmarks.projection`` says of the rows of training, to be read beside what was measured.

python -m benchmarks.gpu.expected
"""

from __future__ import annotations

from functools import cache

from benchmarks.gpu.rows import rows
from benchmarks.gpu.setup import Setup
from benchmarks.projection import bounds, counted


@cache
def count(setup: Setup, algo: str, env: str, num_envs: int) -> dict[str, int]:
    """What there is in an iteration: kernels, calls of CUDA graphs, bytes, operations."""
    return counted(algo, env, num_envs, setup.n_steps, setup.settings(algo, num_envs))


def seconds(setup: Setup, algo: str, env: str, num_envs: int, mode: str) -> dict[str, float]:
    """What an iteration takes on an H100 at least, by what it is spent on; the largest counts."""
    return bounds(count(setup, algo, env, num_envs), graphs=mode != "eager")


def rate(setup: Setup, algo: str, env: str, num_envs: int, mode: str) -> int:
    """Steps per second."""
    return round(num_envs * setup.n_steps / max(seconds(setup, algo, env, num_envs, mode).values()))


def table() -> str:
    """The projection for every number of environments that is measured, as Markdown."""
    setup = Setup("cuda", mini=False)
    points = {
        tuple(row.options[name] for name in ("algo", "env", "num_envs")): None
        for row in rows(mini=False)
        if row.kind.startswith("train ")
    }
    lines = [
        "| agent | environment | N | kernels | calls of graphs | eager, steps/s | in graphs, steps/s | bound then by |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for algo, env, n in sorted(points):
        found = count(setup, algo, env, n)
        bound = seconds(setup, algo, env, n, "graphs")
        rates = " | ".join(f"{rate(setup, algo, env, n, mode) / 1e6:.2f} million" for mode in ("eager", "graphs"))
        lines.append(
            f"| {algo} | {env} | {n:,} | {found['kernels']:,} | {found['calls']:,} | {rates} "
            f"| {max(bound, key=bound.__getitem__)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
