"""Compares PPO in Gymnasium's environments through our adapter with Stable-Baselines3's PPO.

    python -m benchmarks.adapter                              # CartPole-v1 and HalfCheetah-v5, 8 environments
    python -m benchmarks.adapter LunarLander-v3 --threads 2 --repeats 5
    python -m benchmarks.adapter CartPole-v1 --steps-only --num-envs 8 64 1024

Hyperparameters are Stable-Baselines3's defaults on both sides. A repeat is one rollout and its update, with each side's
episode statistics and without logging, after one repeat to warm up. The sides take turns, and the median counts.
``DummyVecEnv`` and ``SubprocVecEnv`` are both measured, and the faster one counts. The last columns are a vector step
of random actions in a bare loop over the same single environments, in Gymnasium's ``SyncVectorEnv`` and through the
adapter, in turns, and the ratio of the adapter to the faster of the others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack, closing
from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from benchmarks import store
from benchmarks.peers import ours, sb3
from rltrain.spaces import random_actions

NUM_ENVS = 8
STEPS = 16_000  # of single environments, in a measurement of stepping


def main() -> None:
    """Measures and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("envs", nargs="*", metavar="ENV", default=["CartPole-v1", "HalfCheetah-v5"])
    parser.add_argument("--threads", type=int, default=1, help="of torch [1]")
    parser.add_argument("--repeats", type=int, default=3, help="[3]")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[NUM_ENVS], help=f"[{NUM_ENVS}]")
    parser.add_argument("--steps-only", action="store_true", help="leave training out")
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    figures = store.load("adapter")
    sides = "ours, steps/s", "SB3, steps/s", "ratio", "loop, us", "Sync, us", "adapter, us", "ratio"
    print("|", " | ".join(("environment", "environments", "threads", *sides)), "|")
    print("| --- " * 10 + "|")
    for env_id, num_envs in ((env_id, num_envs) for env_id in parsed.envs for num_envs in parsed.num_envs):
        result: dict[str, Any] = {"threads": parsed.threads, **steps(env_id, num_envs, parsed.repeats)}
        if not parsed.steps_only:
            result |= training(env_id, num_envs, parsed.repeats)
        rate, other = result.get("ours", 0), result.get("sb3", 0)
        print(
            f"| {env_id} | {num_envs} | {parsed.threads} | {rate:,} ({result.get('how')}) "
            f"| {other:,} ({result.get('sb3_how')}) | {rate / max(other, 1):.2f} "
            f"| {result['loop']} | {result['sync']} | {result['adapter']} | {result['over']:.2f} |",
            flush=True,
        )
        figures[f"{env_id} {num_envs} {parsed.threads}"] = {**result, "machine": store.machine()}
        store.save("adapter", dict(sorted(figures.items())))


def training(env_id: str, num_envs: int, repeats: int) -> dict[str, Any]:
    """Steps per second of training, both sides in turns."""
    with ExitStack() as stack:
        sides: dict[str, Any] = {
            "ours": stack.enter_context(closing(ours.Loop("ppo", env_id, {"num_envs": num_envs}))),
            "DummyVecEnv": stack.enter_context(closing(theirs(env_id, num_envs, DummyVecEnv))),
            "SubprocVecEnv": stack.enter_context(closing(theirs(env_id, num_envs, SubprocVecEnv))),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side.iterate()
        for _ in range(repeats):
            for name, side in sides.items():
                begin = time.perf_counter()
                transitions = side.iterate()
                rates[name].append(transitions / (time.perf_counter() - begin))
    medians = {name: round(statistics.median(values)) for name, values in rates.items()}
    how = max(("DummyVecEnv", "SubprocVecEnv"), key=lambda name: medians[name])
    all_rates = {name: [round(value) for value in values] for name, values in rates.items()}
    ours_how = getattr(sides["ours"].env, "vectorization", "tensors")
    return {"ours": medians["ours"], "how": ours_how, "sb3": medians[how], "sb3_how": how, "all": all_rates}


def theirs(env_id: str, num_envs: int, vec_env_class: Any) -> sb3.Loop:
    """PPO of Stable-Baselines3."""
    return sb3.Loop(
        PPO("MlpPolicy", make_vec_env(env_id, num_envs, seed=0, vec_env_cls=vec_env_class), device="cpu", seed=0)
    )


def steps(env_id: str, num_envs: int, repeats: int) -> dict[str, float]:
    """Medians of the microseconds of a vector step: in a bare loop, in ``SyncVectorEnv`` and in the adapter."""
    from rltrain import make_vec

    rng = torch.Generator().manual_seed(0)
    with ExitStack() as stack:
        vec = stack.enter_context(closing(make_vec(env_id, num_envs, vectorization="sync")))
        sync = stack.enter_context(closing(gymnasium.make_vec(env_id, num_envs, vectorization_mode="sync")))
        vec.reset(0)
        sync.reset(seed=0)
        actions = [random_actions(vec.single_action_space, num_envs, vec.device, rng) for _ in range(16)]
        arrays = [action.numpy() for action in actions]
        envs = [gymnasium.make(env_id, disable_env_checker=True) for _ in range(num_envs)]
        for i, env in enumerate(envs):
            env.reset(seed=i)

        def loop(k: int) -> None:
            for env, action in zip(envs, arrays[k % 16], strict=True):
                _, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    env.reset()

        ways = {
            "loop": loop,
            "sync": lambda k: sync.step(arrays[k % 16]),
            "adapter": lambda k: vec.step(actions[k % 16]),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, step in ways.items():
                times[name].append(microseconds(step, max(STEPS // num_envs, 20)))
    medians = {name: round(statistics.median(values), 1) for name, values in times.items()}
    others = map(min, times["loop"], times["sync"])
    over = [ours / other for ours, other in zip(times["adapter"], others, strict=True)]
    return {**medians, "over": round(statistics.median(over), 3)}


def microseconds(step: Any, count: int) -> float:
    """The mean time of a vector step."""
    for k in range(max(count // 10, 3)):
        step(k)
    begin = time.perf_counter()
    for k in range(count):
        step(k)
    return (time.perf_counter() - begin) / count * 1e6


if __name__ == "__main__":
    main()
