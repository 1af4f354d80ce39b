"""Measures what all watching over a run costs: the looks at numbers, at what environments give, at the run folder.

    python -m benchmarks.watching_cost                      # all kinds of runs
    python -m benchmarks.watching_cost --only dqn --pairs 500

One run trains on, and from update to update the watching is on or off: in pairs, whose order changes at random. The
cost is the median over the pairs of the ratio of processor times of the training thread, which other programs on the
machine hardly change; its interval is that of the median at 95%. The dispatched operations of an update are counted
with and without as well: those of torch, which are most of what watching costs, whatever the machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rltrain
from rltrain.adapters.host_vec import HostVecEnv
from rltrain.adapters.loop import SUCCESS, Loop
from rltrain.check.op_counter import OpCounter
from rltrain.vec import TensorVecEnv

READS = "_local_scalar_dense"  # of a number that is on the CPU anyway: hardly any time
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the agent, the environment, and what is not as tuned
    "ppo": ("ppo", "rltrain/CartPole-v1", {}),
    "ppo, memory": ("ppo", "rltrain/CartPole-v1", {"agent": {"policy_kwargs": {"memory": "gru"}}}),
    "pqn": ("pqn", "rltrain/CartPole-v1", {}),
    "dqn": ("dqn", "rltrain/MinAtar-Breakout-v1", {"agent": {"buffer_size": 50_000, "learning_starts": 1_000}}),
    "sac": ("sac", "rltrain/Pendulum-v1", {"agent": {"learning_starts": 500}}),
    "ppo, Gymnasium": (
        "ppo",
        "CartPole-v1",
        {"num_envs": 8, "env_options": {"vectorization": "sync"}, "agent": {"n_steps": 64, "batch_size": 128}},
    ),
}
ODD = 3
"""Updates of each kind whose operations are counted."""


class Cost(NamedTuple):
    """What watching costs in one kind of run, as shares of an update without it."""

    time: float
    low: float
    high: float
    operations: float
    counted: tuple[int, int]  # without and with


class Switch(rltrain.Callback):
    """Turns watching on and off between updates, and notes what the updates took.

    Args:
        pairs: Pairs of updates to time.
    """

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.times: list[tuple[bool, float]] = []
        self.counts: dict[bool, list[int]] = {False: [], True: []}
        self.order: list[bool] = []
        self.is_on = True
        self.began: float | None = None
        self.counter: OpCounter | None = None
        self.off: list[tuple[object, str, Callable[..., Any]]] = []

    def on_update(self, trainer: Any, metrics: Any) -> None:
        if not self.off:
            self.off = replaced(trainer)
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            counts = self.counter.counts
            self.counts[self.is_on].append(sum(number for name, number in counts.items() if READS not in name))
            self.counter = None
        elif self.began is not None:
            self.times.append((self.is_on, time.thread_time() - self.began))
        self.began = None
        if not any(tag.startswith("train/") and "loss" in tag for tag in metrics):  # nothing is learned yet
            return
        if len(self.times) >= 2 * self.pairs and min(map(len, self.counts.values())) >= ODD:
            trainer.stop()
            return
        if not self.order:
            self.order = random.choice(([True, False], [False, True]))
        self.turn(self.order.pop())
        if len(self.times) < 2 * self.pairs:
            self.began = time.thread_time()
        else:
            self.counter = OpCounter()
            self.counter.__enter__()

    def turn(self, on: bool) -> None:
        """Turns watching on or off."""
        self.is_on = on
        for thing, name, instead in self.off:
            if on:
                vars(thing).pop(name, None)
            else:
                setattr(thing, name, instead)


def replaced(trainer: Any) -> list[tuple[object, str, Callable[..., Any]]]:
    """The methods that watch, and what stands in their places when they do not."""
    off: list[tuple[object, str, Callable[..., Any]]] = [
        (trainer.watch, "update", lambda *_: None),
        (trainer, "given", lambda: None),
        (trainer.folder, "check_place", lambda: None),
    ]
    env = trainer.env
    while not isinstance(env, TensorVecEnv | HostVecEnv):
        env = env.vec
    if isinstance(env, TensorVecEnv):
        return [*off, (env, "_is_due", lambda: False), (env, "_fits", lambda following: True)]
    loop = env._envs
    assert isinstance(loop, Loop), "its environments are not stepped in a loop"
    return [*off, (env, "_check_masks", lambda *_: None), (loop, "step", types.MethodType(unwatched, loop))]


def unwatched(loop: Loop) -> None:
    """:meth:`Loop.step` without a look at what the environments give, and without noting which one is stepped."""
    actions = loop.actions.to_env(loop.action)
    loop.success.fill(np.nan)
    ended = []
    for i, env in enumerate(loop.envs):
        obs, loop.reward[i], terminated, truncated, info = env.step(actions[i])
        for part in loop.final_obs:
            value = obs
            for key in part.path:
                value = value[key]
            part.array[i] = value
        loop.terminated[i], loop.truncated[i] = terminated, truncated
        if SUCCESS in info:
            loop.success[i] = info[SUCCESS]
        if terminated or truncated:
            ended.append(i)
    np.greater(loop.truncated, loop.terminated, out=loop.truncated)
    loop._return += loop.reward
    loop._length += 1
    loop.episode_return[:] = loop._return
    loop.episode_length[:] = loop._length
    for i in ended:
        loop._return[i], loop._length[i] = 0.0, 0
        obs, _ = loop.envs[i].reset()
        for part in loop.obs:
            value = obs
            for key in part.path:
                value = value[key]
            part.array[i] = value


def measure(kind: str, pairs: int, folder: Path) -> Cost:
    """Trains, with watching on and off in turns."""
    algo, env, options = KINDS[kind]
    switch = Switch(pairs)
    random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rltrain.train(
            algo,
            env,
            callbacks=[switch],
            run_dir=folder,
            progress=False,
            **{
                "total_timesteps": 10**9,
                "num_threads": 1,
                "save_freq": 0,
                "n_eval_episodes": 0,
                "trackers": [],
                "device": "cpu",
                **options,
            },
        )
    both = zip(switch.times[::2], switch.times[1::2], strict=True)
    ratios = sorted(dict(pair)[True] / dict(pair)[False] - 1.0 for pair in both)
    half = round(0.98 * len(ratios) ** 0.5)  # order statistics around the median
    middle = len(ratios) // 2
    without, with_ = (round(statistics.median(switch.counts[on])) for on in (False, True))
    low, high = ratios[max(0, middle - half)], ratios[min(len(ratios) - 1, middle + half)]
    return Cost(statistics.median(ratios), low, high, with_ / without - 1.0, (without, with_))


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*KINDS], default=[*KINDS], metavar="KIND", help="[all]")
    parser.add_argument("--pairs", type=int, default=300, help="of updates, for each kind [300]")
    parsed = parser.parse_args()
    print("| run | time | 95% | operations of an update | more |\n| --- | --- | --- | --- | --- |", flush=True)
    for kind in parsed.only:
        with tempfile.TemporaryDirectory() as folder:
            cost = measure(kind, parsed.pairs, Path(folder))
        without, with_ = cost.counted
        print(
            f"| {kind} | {cost.time:+.1%} | {cost.low:+.1%} to {cost.high:+.1%} | {without:,} and {with_:,} | "
            f"{cost.operations:+.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
