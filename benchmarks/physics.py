"""Compares ways to step MuJoCo's tasks, in steps of the environment per second of random actions.

    python -m benchmarks.physics                                   # HalfCheetah-v5, every way
    python -m benchmarks.physics Ant-v5 Humanoid-v5 --num-envs 8 64 --cores 1
    python -m benchmarks.physics --mujoco-torch                    # MuJoCo in torch: accuracy and speed

The ways: Gymnasium's ``SyncVectorEnv``; through our vector environment, tensors in and out, Gymnasium's environments in
a loop, by workers, and in our own form by threads; ``envpool/...`` through our vector environment, where it is
installed; and, without any environment around it, MuJoCo's ``mj_step`` in a loop on one core and MuJoCo's own
``mujoco.batch``. They take turns, and the median of the repeats counts, in wall time. ``--cores`` is how many cores the
process may use.

``--mujoco-torch`` starts from states that random actions have led to, so with contacts, and steps MuJoCo and
mujoco-torch from there with the same actions, in double precision: the largest difference of a coordinate or velocity,
relative to 1 or to the number, of each of two starts. Rates count MuJoCo's own steps, of which HalfCheetah's
environment takes five at once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from benchmarks import store, venvs
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.process.memory import keep_memory
from rltrain.spaces import random_actions

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5", "Reacher-v5")
ACTIONS = 16  # batches of actions, drawn beforehand and used in turn
LONG = 100  # steps of MuJoCo's
Step = Callable[[int], Any]


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="*", metavar="ENV", default=[], help="[HalfCheetah-v5]")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[1, 8, 64], metavar="N", help="[1 8 64]")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="[all]")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat, at least [1]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parser.add_argument("--mujoco-torch", action="store_true", help="MuJoCo in torch against MuJoCo")
    parsed = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: parsed.cores])
    torch.set_num_threads(1)
    keep_memory()
    figures = store.load("physics")
    if parsed.mujoco_torch:
        in_torch(parsed, figures)
    else:
        in_environments(parsed, figures)
    store.save("physics", dict(sorted(figures.items())))


def in_environments(parsed: argparse.Namespace, figures: dict[str, Any]) -> None:
    """The table of the ways to step environments."""
    import mujoco

    ways = ("SyncVectorEnv", "loop", "workers", "threads", "EnvPool", "mj_step", "mujoco.batch")
    print("| task | N | cores |", " | ".join(ways), "|")
    print("| --- " * (3 + len(ways)) + "|")
    for env_id in parsed.envs or ["HalfCheetah-v5"]:
        for n in parsed.num_envs:
            rates = measure(env_id, n, parsed.seconds, parsed.repeats)
            cells = [f"{rates[way]:,}" if way in rates else "" for way in ways]
            print(f"| {env_id} | {n:,} | {parsed.cores} |", " | ".join(cells), "|", flush=True)
            about = {"cores": parsed.cores, "mujoco": mujoco.__version__, "machine": store.machine()}
            figures[f"{env_id} {n} {parsed.cores}"] = {**rates, **about}


def measure(env_id: str, n: int, seconds: float, repeats: int) -> dict[str, int]:
    """Steps per second by way."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        ways = made(env_id, n, stack)
        for _ in range(repeats):
            for way, step in ways.items():
                rates.setdefault(way, []).append(n * calls_per_second(step, seconds))
    return {way: round(statistics.median(found)) for way, found in rates.items()}


def made(env_id: str, n: int, stack: ExitStack) -> dict[str, Step]:
    """A step of N environments by way; random actions numbered by its argument."""
    ways: dict[str, Step] = {}
    ids = {"loop": env_id, "workers": env_id, "threads": env_id, "EnvPool": f"envpool/{env_id}"}
    options = {"loop": {"vectorization": "sync"}, "workers": {"vectorization": "async"}}
    for way, each in ids.items():
        if way == "workers" and n == 1:
            continue
        try:
            vec: Any = stack.enter_context(closing(make_vec(each, n, **options.get(way, {}))))
        except ConfigError as error:
            if way != "EnvPool":
                raise
            print(f"no EnvPool: {error.cause}", flush=True)
            continue
        vec.reset(0)
        rng = torch.Generator().manual_seed(0)
        actions = [random_actions(vec.single_action_space, n, vec.device, rng) for _ in range(ACTIONS)]
        ways[way] = lambda k, vec=vec, actions=actions: vec.step(actions[k % ACTIONS])  # type: ignore[misc]
    arrays = [action.numpy() for action in actions]
    sync = stack.enter_context(closing(gymnasium.make_vec(env_id, n, vectorization_mode="sync")))
    sync.reset(seed=0)
    return {"SyncVectorEnv": lambda k: sync.step(arrays[k % ACTIONS]), **ways, **bare(env_id, n, arrays)}


def bare(env_id: str, n: int, arrays: list[np.ndarray]) -> dict[str, Step]:
    """MuJoCo alone, without observations, rewards and resets."""
    import mujoco

    env: Any = gymnasium.make(env_id).unwrapped
    data = [mujoco.MjData(env.model) for _ in range(n)]

    def loop(k: int) -> None:
        for each, ctrl in zip(data, arrays[k % ACTIONS], strict=True):
            each.ctrl = ctrl
            mujoco.mj_step(env.model, each, env.frame_skip)

    try:
        from mujoco.batch import Batch
    except ImportError:  # before 3.17
        return {"mj_step": loop}
    batch = Batch(env.model, n, len(os.sched_getaffinity(0)))
    ctrl = batch.bind("ctrl")

    def step(k: int) -> None:
        ctrl[:] = arrays[k % ACTIONS]
        batch.step(nstep=env.frame_skip)

    return {"mj_step": loop, "mujoco.batch": step}


def calls_per_second(step: Step, seconds: float) -> float:
    """Calls per second over some seconds."""
    for k in range(3):
        step(k)
    count, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        step(count)
        count += 1
    return count / passed


def in_torch(parsed: argparse.Namespace, figures: dict[str, Any]) -> None:
    """The table of mujoco-torch."""
    python, reason = venvs.python_of("mujoco_torch")
    if reason:
        raise SystemExit(f"mujoco-torch could not be installed: {reason}")
    print(
        "| model | steps with contact | off after 1 step | after 100 | its steps/s | MuJoCo's steps/s | by torch.vmap |"
    )
    print("| --- " * 7 + "|")
    for env_id in parsed.envs or TASKS:
        env: Any = gymnasium.make(env_id).unwrapped
        request = {"xml": env.fullpath, "steps": LONG, "seconds": parsed.seconds, "num_envs": [1, 64]}
        answer = asked(python, {**request, "cores": parsed.cores})
        if "PGS" in answer.get("failed", ""):  # a solver that it lacks; MuJoCo is then given the same one
            answer = {**asked(python, {**request, "cores": parsed.cores, "solver": "NEWTON"}), "solver": "Newton"}
        answer["mujoco_rate"] = round(plain_rate(env, parsed.seconds))
        figures[f"mujoco-torch {env_id} {parsed.cores}"] = {**answer, "machine": store.machine()}
        print(row_of(env_id, answer), flush=True)


def asked(python: str, request: dict[str, Any]) -> dict[str, Any]:
    """What the other virtual environment answers."""
    done = subprocess.run(
        [python, "-m", "benchmarks.peers.mujoco_torch"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    if done.returncode:
        return {"failed": venvs.reason_in(done.stderr)}
    return json.loads(done.stdout.splitlines()[-1])


def row_of(env_id: str, answer: dict[str, Any]) -> str:
    """A row of the table of mujoco-torch."""
    name = f"{env_id} ({answer['solver']} for PGS)" if "solver" in answer else env_id
    if "failed" in answer:
        return f"| {name} | {answer['failed']} | | | | | |"
    cells = [
        f"{answer['with_contact']:.0%}",
        f"{answer['one']:.0e}",
        ", ".join(f"{each:.0e}" for each in answer["all"]),
    ]
    cells += [str(answer["rates"]["1"]), f"{answer['mujoco_rate']:,}", str(answer["rates"]["64"])]
    return f"| {name} | {' | '.join(cells)} |"


def plain_rate(env: Any, seconds: float) -> float:
    """Steps per second of MuJoCo alone, of one simulation."""
    import mujoco

    rng, space = np.random.default_rng(0), env.action_space
    actions = rng.uniform(space.low, space.high, (ACTIONS, *space.shape))

    def step(k: int) -> None:
        env.data.ctrl = actions[k % ACTIONS]
        mujoco.mj_step(env.model, env.data, 5)

    return 5 * calls_per_second(step, seconds)


if __name__ == "__main__":
    main()
