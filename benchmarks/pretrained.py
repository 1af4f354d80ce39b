"""Measures what it buys to reinforce a policy that was learned from data, what the switch costs, and where it fails.

    python -m benchmarks.pretrained
    python -m benchmarks.pretrained --only CartPole --seeds 5

In each case a policy or values are learned from a dataset (seed 100), and an agent goes on in the environment from
there in several ways, with 5 seeds each. It is evaluated after every ``every`` steps. The table has medians over the
seeds, and ranges: the return of the source; the lowest evaluation of the first five, which shows the dip at the switch;
the steps to the threshold (as soon as an evaluation reaches it); the mean of all evaluations, and the last one. Figures
are kept in ``benchmarks/results`` after every run, and runs that are kept are not repeated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import torch

import rltrain
from benchmarks import cases, store
from benchmarks.seeds import spread
from rltrain.recording.recorder import record

SOURCE_SEED, EPISODES, AT_THE_SWITCH = 100, 20, 5
FRESH = "fresh"
RETURN = "{:.4g}"


@dataclass(frozen=True)
class Case:
    """A task.

    Attributes:
        env: Environment id.
        record: Options of the recording: the agent that plays, its steps, and how many episodes.
        source: Agent and options of what is learned from the data.
        algo: Who goes on.
        agent: Its hyperparameters.
        steps: Environment steps.
        every: Steps between evaluations.
        threshold: Return.
        ways: Options by the name of the way. ``True`` stands for the source's run, ``"data"`` for the dataset.
        options: Further options of going on.
    """

    env: str
    record: dict[str, Any]
    source: dict[str, Any]
    algo: str
    agent: dict[str, Any]
    steps: int
    every: int
    threshold: float
    ways: dict[str, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)


START: dict[str, Any] = {"init_from": True}
SQUASHED = {"squash_output": True, "net_arch": [64, 64], "activation_fn": "relu"}
PPO = {"n_steps": 32, "batch_size": 256, "n_epochs": 4, "learning_rate": 1e-3}
SAC = {"learning_rate": 1e-3, "gradient_steps": -1, "policy_kwargs": {"net_arch": [64, 64]}}
BREAKOUT = {
    **{"n_steps": 64, "batch_size": 256, "n_epochs": 2, "learning_rate": "lin_1.5e-3", "ent_coef": 0.02},
    "policy_kwargs": {"activation_fn": "relu", "net_arch": [128]},
}
FEW_RANDOM = {"learning_starts": 0}
CASES = {
    "CartPole: a clone of a medium policy, then PPO": Case(
        "rltrain/CartPole-v1",
        {"algo": "ppo", "steps": 15_360, "episodes": 50},
        {"algo": "bc", "steps": 100_000},
        "ppo",
        PPO,
        60_000,
        2_048,
        475.0,
        {
            "start": START,
            "start, value_warmup": {**START, "agent": {"value_warmup": 10}},
            "start, leash": {**START, "teacher": True, "teacher_coef": "lin_1.0"},
            "start, both": {**START, "teacher": True, "teacher_coef": "lin_1.0", "agent": {"value_warmup": 10}},
        },
        {"num_envs": 8},
    ),
    "Pendulum: a clone of a medium policy, then SAC": Case(
        "rltrain/Pendulum-v1",
        {"algo": "sac", "steps": 4_000, "episodes": 30},
        {"algo": "bc", "steps": 300_000, "agent": {"policy_kwargs": SQUASHED, "learning_rate": 1e-3}},
        "sac",
        SAC,
        10_000,
        500,
        -200.0,
        {
            "start": {**START, "agent": FEW_RANDOM},
            "start, value_warmup": {**START, "agent": {**FEW_RANDOM, "value_warmup": 1_000}},
            "start, leash": {**START, "teacher": True, "teacher_coef": "lin_5.0", "agent": FEW_RANDOM},
            "start, both": {
                **START,
                "teacher": True,
                "teacher_coef": "lin_5.0",
                "agent": {**FEW_RANDOM, "value_warmup": 1_000},
            },
            "the data beside the replay": {"data": "data", "agent": {"offline_fraction": 0.5}},
        },
        {"num_envs": 4},
    ),
    "Pendulum: IQL on medium data, then SAC": Case(
        "rltrain/Pendulum-v1",
        {"algo": "sac", "steps": 4_000, "episodes": 30},
        {
            "algo": "iql",
            "steps": 400_000,
            "agent": {"policy_kwargs": SQUASHED, "reward_scale": 0.1, "learning_rate": 1e-3, "normalize_obs": False},
        },
        "sac",
        SAC,
        10_000,
        500,
        -200.0,
        {
            "start": {**START, "reset": ["value"], "agent": FEW_RANDOM},
            "start, the data beside the replay": {
                **START,
                "reset": ["value"],
                "data": "data",
                "agent": {**FEW_RANDOM, "offline_fraction": 0.5},
            },
        },
        {"num_envs": 4},
    ),
    "CartPole: CQL on medium data, then DQN": Case(
        "rltrain/CartPole-v1",
        {"algo": "ppo", "steps": 15_360, "episodes": 50},
        {"algo": "cql", "steps": 400_000, "agent": {"learning_rate": 1e-3, "alpha": 0.3}},
        "dqn",
        {
            "learning_rate": 1e-3,
            "train_freq": 4,
            "gradient_steps": 8,
            "target_update_interval": 500,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.02,
            "batch_size": 64,
        },
        40_000,
        2_000,
        475.0,
        {
            "start": {**START, "agent": {**FEW_RANDOM, "exploration_initial_eps": 0.05}},
            "start, the data beside the replay": {
                **START,
                "data": "data",
                "agent": {**FEW_RANDOM, "exploration_initial_eps": 0.05, "offline_fraction": 0.5},
            },
            "the data beside the replay": {"data": "data", "agent": {"offline_fraction": 0.5}},
        },
        {"num_envs": 4},
    ),
    "Acrobot: a clone of random actions, then PPO": Case(
        "rltrain/Acrobot-v1",
        {"algo": "ppo", "steps": 0, "episodes": 20},
        {"algo": "bc", "steps": 50_000},
        "ppo",
        PPO,
        100_000,
        4_096,
        -100.0,
        {"start": START, "start, leash": {**START, "teacher": True, "teacher_coef": "lin_1.0"}},
        {"num_envs": 16},
    ),
    "MinAtar Breakout: an encoder from random play, then PPO": Case(
        "rltrain/MinAtar-Breakout-v1",
        {"algo": "ppo", "steps": 0, "episodes": 1_000},
        {"algo": "atc", "steps": 400_000, "agent": {"policy_kwargs": BREAKOUT["policy_kwargs"]}},
        "ppo",
        BREAKOUT,
        400_000,
        40_960,
        8.0,
        {"start": START, "start, frozen encoder": {**START, "freeze": ["encoder"]}},
        {"num_envs": 64},
    ),
}


def main() -> None:
    """Runs what is missing and prints a Markdown table."""
    parsed = cases.options(__doc__)
    torch.set_num_threads(1)
    kept = store.load("pretrained")
    print("| task | way | lowest at the switch | steps to the threshold | mean over all steps | at the end |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, case in CASES.items():
        if parsed.only and parsed.only not in name:
            continue
        entry = kept.setdefault(name, {"torch": torch.__version__.partition("+")[0], "source": None, "runs": {}})
        measure(case, entry, parsed.seeds, lambda: store.save("pretrained", kept))
        print(f"| {name} | source | {entry['source']:.4g} | | | |")
        for way, by_seed in entry["runs"].items():
            curves = [by_seed[seed] for seed in map(str, range(parsed.seeds)) if seed in by_seed]
            lowest = spread([min(curve[:AT_THE_SWITCH]) for curve in curves], RETURN)
            reached = spread([steps_to(curve, case) for curve in curves], "{:,.0f}").replace("inf", "never")
            whole = spread([mean(curve) for curve in curves], RETURN)
            last = spread([curve[-1] for curve in curves], RETURN)
            print(f"| | {way} | {lowest} | {reached} | {whole} | {last} |", flush=True)


def measure(case: Case, entry: dict[str, Any], seeds: int, save: Callable[[], Any]) -> None:
    """Adds the evaluations of missing runs, by way and seed."""
    ways = {FRESH: {}, **case.ways}
    wanted = [(way, seed) for seed in map(str, range(seeds)) for way in ways]
    wanted = [(way, seed) for way, seed in wanted if seed not in entry["runs"].get(way, {})]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(case, Path(folder))
        given = dict(case.source)
        source = train(
            given.pop("algo"),
            case.env,
            folder,
            {"data": data, "total_timesteps": given.pop("steps"), "seed": SOURCE_SEED, **given},
        )
        entry["source"] = rltrain.load(source).evaluate(100).mean_reward
        for way, seed in wanted:
            options = {name: str(source) if value is True else value for name, value in ways[way].items()}
            if options.get("data") == "data":
                options["data"] = data
            settings = {**case.agent, **options.pop("agent", {})}
            more = {"total_timesteps": case.steps, "eval_freq": case.every, "n_eval_episodes": EPISODES}
            run = train(
                case.algo, case.env, folder, {**case.options, **more, **options, "agent": settings, "seed": int(seed)}
            )
            entry["runs"].setdefault(way, {})[seed] = cases.evaluations(run)
            save()


def recorded(case: Case, folder: Path) -> str:
    """The dataset of a case."""
    given, out = case.record, folder / "data"
    if not given["steps"]:
        record(case.env, out, policies=["random"], episodes=given["episodes"], seed=1)
        return str(out)
    options = {"total_timesteps": given["steps"], "seed": SOURCE_SEED, **case.options}
    agent = PPO if given["algo"] == "ppo" else SAC
    run = train(given["algo"], case.env, str(folder), {**options, "agent": agent})
    record(rltrain.load(run), out, episodes=given["episodes"], stochastic=True, seed=1)
    return str(out)


def train(algo: str, env: str, folder: str, options: dict[str, Any]) -> Path:
    """Trains, and returns the run folder."""
    always = {"num_threads": 1, "progress": False, "save_freq": 0, "run_dir": folder, "trackers": ["csv"]}
    return cases.whole(rltrain.train(algo, env, **{"n_eval_episodes": 0, **always, **options})).run_dir


def steps_to(curve: list[float], case: Case) -> float:
    """The steps after which an evaluation reaches the threshold; infinite if none does."""
    return next(((i + 1) * case.every for i, score in enumerate(curve) if score >= case.threshold), float("inf"))


if __name__ == "__main__":
    main()
