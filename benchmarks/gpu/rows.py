"""What ``python -m benchmarks.gpu`` runs: a list of rows, the most important first.

Settings are equal for all agents: an iteration collects 32 steps of every environment and takes 16 gradient steps, each
on a quarter of what was collected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

CARTPOLE, BREAKOUT = "rltrain/CartPole-v1", "rltrain/MinAtar-Breakout-v1"
AGENTS = ("ppo", "pqn", "dqn")
CHECKS = "benchmarks.gpu.correctness"
SIZES = (4_096, 16_384, 65_536, 1_024)  # environments, the most telling number first
TINY = (32,)  # with --mini

GUESSES = {  # seconds that a row takes on an H100, until a row of its kind was measured
    "environments": 20,
    "adam": 5,
    "waits eager": 5,
    "waits graphs": 8,
    "waits compiled": 40,
    "same graphs": 10,
    "same compiled": 45,
    "resume": 15,
    "solve eager": 20,
    "solve compiled": 50,
    "train eager": 10,
    "train graphs": 12,
    "train compiled": 50,
    "train bfloat16": 50,
    "step eager": 4,
    "step compiled": 12,
    "launches eager": 8,
    "launches graphs": 10,
    "launches compiled": 45,
    "jax": 25,
}
MINI_GUESS = 5  # seconds, on a CPU


@dataclass(frozen=True)
class Row:
    """One row of the report.

    Attributes:
        name: What the report calls it.
        kind: Rows of one kind take about the same time.
        work: The function that does it, as ``module:function``; it is given a ``benchmarks.gpu.setup.Setup``.
        options: Its keyword arguments.
        needs: What there must be: ``cuda``, ``jax``.
    """

    name: str
    kind: str
    work: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


def rows(*, mini: bool) -> list[Row]:
    """All rows, in the order in which they are run; with ``mini`` a row or two of every kind, of tiny sizes."""
    first, *others = TINY if mini else SIZES
    most_telling = [
        Row("environments against the CPU", "environments", "benchmarks.gpu.environments:all_of_them"),
        Row("Adam against float64", "adam", f"{CHECKS}:adam"),
        *(waits(algo, "eager") for algo in AGENTS),
        waits("ppo", "graphs"),
        same("ppo", "graphs"),
        same("ppo", "compiled"),
        *training("ppo", CARTPOLE, first, "eager", "graphs", "compiled"),
        launches("ppo", CARTPOLE, first, "eager"),
        launches("ppo", CARTPOLE, first, "graphs"),
        *training("ppo", BREAKOUT, first, "eager", "graphs", "compiled"),
        jax(first),
        *(stepping(env, first, mode) for env in (CARTPOLE, BREAKOUT) for mode in ("eager", "compiled")),
        *(row for algo in AGENTS[1:] for row in training(algo, CARTPOLE, first, "eager", "graphs", "compiled")),
        Row("ppo solves CartPole, eager", "solve eager", f"{CHECKS}:solves", {"mode": "eager"}),
        *(Row(f"{algo} resumes exactly", "resume", f"{CHECKS}:resumes", {"algo": algo}) for algo in ("ppo", "dqn")),
        *training("ppo", CARTPOLE, first, "bfloat16"),
    ]
    if mini:
        return most_telling
    return [
        *most_telling,
        *(row for n in others for row in training("ppo", CARTPOLE, n, "graphs", "compiled")),
        *(jax(n) for n in others),
        *(row for n in others for row in training("ppo", BREAKOUT, n, "graphs", "compiled")),
        *(same(algo, "graphs") for algo in AGENTS[1:]),
        *(waits(algo, "graphs") for algo in AGENTS[1:]),
        launches("ppo", CARTPOLE, first, "compiled"),
        *(row for algo in AGENTS[1:] for row in training(algo, BREAKOUT, first, "eager", "graphs", "compiled")),
        *(stepping(env, n, mode) for n in others for env in (CARTPOLE, BREAKOUT) for mode in ("eager", "compiled")),
        *(row for n in others for algo in AGENTS[1:] for row in training(algo, CARTPOLE, n, "graphs")),
        *training("ppo", BREAKOUT, first, "bfloat16"),
        *(launches("ppo", BREAKOUT, first, mode) for mode in ("eager", "graphs")),
        Row("ppo solves CartPole, compiled", "solve compiled", f"{CHECKS}:solves", {"mode": "compiled"}),
        *(same(algo, "compiled") for algo in AGENTS[1:]),
        waits("ppo", "compiled"),
    ]


def training(algo: str, env: str, num_envs: int, *modes: str) -> Iterator[Row]:
    """Throughput of rollout and learning, in each of the modes."""
    for mode in modes:
        options = {"algo": algo, "env": env, "num_envs": num_envs, "mode": mode}
        name = f"{algo} {short(env)} {num_envs:,}, {mode}"
        yield Row(name, f"train {mode}", "benchmarks.gpu.training:throughput", options, needs=needed_by(mode))


def stepping(env: str, num_envs: int, mode: str) -> Row:
    """Random actions alone."""
    options = {"env": env, "num_envs": num_envs, "mode": mode}
    return Row(f"step {short(env)} {num_envs:,}, {mode}", f"step {mode}", "benchmarks.gpu.stepping:throughput", options)


def launches(algo: str, env: str, num_envs: int, mode: str) -> Row:
    """What one iteration has the GPU do."""
    options = {"algo": algo, "env": env, "num_envs": num_envs, "mode": mode}
    name = f"launches of {algo} {short(env)} {num_envs:,}, {mode}"
    return Row(name, f"launches {mode}", "benchmarks.gpu.launches:iteration", options, needs=("cuda",))


def waits(algo: str, mode: str) -> Row:
    """An iteration in which waiting for the GPU is an error."""
    options = {"algo": algo, "mode": mode}
    return Row(f"{algo} never waits, {mode}", f"waits {mode}", f"{CHECKS}:waits", options, needs=("cuda",))


def same(algo: str, mode: str) -> Row:
    """A mode against eager."""
    options = {"algo": algo, "mode": mode}
    return Row(f"{algo}, {mode} = eager", f"same {mode}", f"{CHECKS}:same", options, needs=needed_by(mode))


def jax(num_envs: int) -> Row:
    """The loop in JAX beside ours."""
    name = f"PPO in JAX, CartPole {num_envs:,}"
    return Row(name, "jax", "benchmarks.gpu.jax_loop:throughput", {"num_envs": num_envs}, needs=("jax",))


def needed_by(mode: str) -> tuple[str, ...]:
    """CUDA graphs need CUDA."""
    return ("cuda",) if mode == "graphs" else ()


def short(env: str) -> str:
    """An id as a name within a row."""
    return env.rpartition("/")[2].removeprefix("MinAtar-").rpartition("-")[0]
