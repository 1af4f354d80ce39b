"""Compares the speed of DQN with Stable-Baselines3's: steps per second of training on CartPole.

    python -m benchmarks.dqn_speed                 # one thread, 1 to 512 environments on either side
    python -m benchmarks.dqn_speed --envs 1 16     # these numbers of them

Hyperparameters are the same on both sides, in three variants: Stable-Baselines3's defaults to the letter, with an
update after every fourth step of the vector, whatever the number of environments; the same with as many updates per
environment step as for one environment; and RL Zoo's for CartPole, with 128 updates every 256 environment steps.
Training is measured after ``learning_starts`` and without logging. The sides take turns, and the median of three
counts. The last line is our gradient steps per second with minibatches of 128 and layers of 120 and 84, sampling
included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from stable_baselines3.common.env_util import make_vec_env

from benchmarks import store
from benchmarks.measures import ZOO_DQN
from benchmarks.peers import ours as our_side
from benchmarks.peers import sb3 as their_side

ENV = "CartPole-v1"
DEFAULTS: dict[str, Any] = {}
ZOO: dict[str, Any] = {
    **ZOO_DQN,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
REPEATS = 3
SECONDS = 2.0


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, nargs="+", default=[1, 8, 64, 512], metavar="N", help="[1 8 64 512]")
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    figures: dict[str, Any] = {}
    print("| hyperparameters | environments | ours, steps/s | SB3, steps/s | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for label, settings, ratio in (
        ("SB3's defaults", DEFAULTS, None),
        ("SB3's defaults, 1 update in 4 steps", DEFAULTS, (4, 1)),
        ("RL Zoo's, 128 updates in 256 steps", ZOO, (256, 128)),
    ):
        for n in parsed.envs:
            agent = settings if ratio is None else {**settings, **spread_over(n, *ratio)}
            sides = {"ours": ours(n, agent), "sb3": sb3(n, agent)}
            rates = in_turns(sides)
            figures[f"{label}, {n}"] = rates
            print(
                f"| {label} | {n} | {rates['ours']:,} | {rates['sb3']:,} | {rates['ours'] / rates['sb3']:.1f} |",
                flush=True,
            )
    gradients = in_turns({"gradient steps": gradient_steps()})
    print(f"\n{gradients['gradient steps']:,} gradient steps/s, batch 128, 120-84, {parsed.threads} thread(s)")
    figures |= gradients
    store.save("dqn_speed", {"figures": figures, "machine": store.machine()})


def spread_over(n: int, steps: int, updates: int) -> dict[str, int]:
    """The same number of updates per environment step for ``n`` environments."""
    freq = max(1, steps // n)
    return {"train_freq": freq, "gradient_steps": freq * n * updates // steps}


def in_turns(sides: dict[str, Callable[[], int]]) -> dict[str, int]:
    """The median rate of each side; a call does some work and returns how much."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    for _ in range(REPEATS):
        for name, work in sides.items():
            done, begin = 0, time.perf_counter()
            while (passed := time.perf_counter() - begin) < SECONDS:
                done += work()
            rates[name].append(done / passed)
    return {name: round(median(values)) for name, values in rates.items()}


def ours(n: int, settings: dict[str, Any]) -> Callable[[], int]:
    """Some steps and updates of ours, as the trainer makes them."""
    loop = our_side.Loop("dqn", f"rltrain/{ENV}", {"num_envs": n, "agent": settings})
    iterations = 1 + loop.setup.config.agent.learning_starts // loop.transitions
    return lambda: sum(loop.iterate() for _ in range(iterations))


def sb3(n: int, settings: dict[str, Any]) -> Callable[[], int]:
    """Some steps and updates of Stable-Baselines3's."""
    model: Any = their_side.DQN("MlpPolicy", make_vec_env(ENV, n, seed=0), device="cpu", seed=0, **settings)
    loop = their_side.Loop(model)
    steps = 2 * model.learning_starts + model.train_freq.frequency * n

    def work() -> int:
        done = 0
        while done < steps:
            done += loop.iterate()
        return done

    return work


def gradient_steps() -> Callable[[], int]:
    """A thousand gradient steps of ours, and the four environment steps before them."""
    settings = {
        "batch_size": 128,
        "gradient_steps": 1000,
        "policy_kwargs": {"net_arch": [120, 84]},
        "learning_starts": 0,
    }
    loop = our_side.Loop("dqn", f"rltrain/{ENV}", {"num_envs": 64, "agent": settings})

    def work() -> int:
        loop.iterate()
        return 1000

    return work


if __name__ == "__main__":
    main()
