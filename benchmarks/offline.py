"""Measures what agents that learn from a dataset make of four kinds of them, in three environments.

    python -m benchmarks.offline
    python -m benchmarks.offline --only CartPole --seeds 5 --agents dt

For each environment PPO is trained with the settings that ship for it (seed 100), and its checkpoints record the
datasets: ``random`` by random actions, ``medium`` by the first checkpoint whose evaluation is past a third of the way
from random to the last, ``expert`` by the last one, and ``replay`` by random actions and all checkpoints up to
``medium``, in equal shares. Policies sample their actions. Every agent learns from each with the settings that ship for
it and the environment; the table has the interquartile mean of the scores of the final policies (100 new episodes each)
over the seeds, and the range. Figures are kept in ``benchmarks/results`` after every run, and runs that are kept are
not repeated.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

import rltrain
from benchmarks import cases, store
from rltrain.data.dataset import Dataset
from rltrain.evaluation.statistics import iqm
from rltrain.recording.recorder import record
from rltrain.registry import env_spec
from rltrain.runs.layout import list_checkpoints, step_of
from rltrain.runs.policy import Policy
from rltrain.settings import tuned_defaults

SOURCE_SEED, CHECKPOINTS = 100, 20
EPISODES = {"rltrain/CartPole-v1": 100, "rltrain/Pendulum-v1": 100, "rltrain/MiniGrid-DoorKey-5x5-v0": 300}
KINDS = ("random", "medium", "replay", "expert")
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bc": ("bc", {}),
    "iql": ("iql", {}),
    "awac": ("iql", {"advantage": "policy"}),
    "cql": ("cql", {}),
    "dt": ("dt", {}),
}
DISCRETE = ("cql",)
STEPS = {"dt": 500_000}
"""Steps of the dataset that an agent learns from, in all passes, where they are not :data:`OTHERS`. A minibatch of
``dt`` has 64 pieces of 20 steps, so these are half as many minibatches as the others take, in far more time."""
OTHERS = 200_000


def main() -> None:
    """Runs what is missing and prints a Markdown table."""
    parser = cases.parser(__doc__, "environments whose id contains this text")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, help="run these alone [all]")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    kept = store.load("offline")
    print(f"| environment | data | their mean return | {' | '.join(AGENTS)} |")
    print(f"| --- | --- | --- | {' | '.join('---' for _ in AGENTS)} |")
    for env in EPISODES:
        if parsed.only and parsed.only not in env:
            continue
        entry = kept.setdefault(env, {"torch": torch.__version__.partition("+")[0], "data": {}, "runs": {}})
        measure(env, entry, parsed.seeds, parsed.agents, lambda: store.save("offline", kept))
        for kind in KINDS:
            cells = [cell(entry["runs"].get(kind, {}).get(agent, {}), parsed.seeds) for agent in AGENTS]
            print(f"| {env} | {kind} | {entry['data'][kind]:.4g} | {' | '.join(cells)} |", flush=True)


def measure(env: str, entry: dict[str, Any], seeds: int, only: list[str] | None, save: Any) -> None:
    """Adds the scores of missing runs, by dataset, agent and seed; of some agents alone if ``only`` names them."""
    wanted = [
        (kind, agent, seed)
        for seed in map(str, range(seeds))
        for kind in KINDS
        for agent in AGENTS
        if agent in (only or AGENTS)
        if agent not in DISCRETE or discrete(env)
        if seed not in entry["runs"].get(kind, {}).get(agent, {})
    ]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        sets = datasets(env, Path(folder))
        entry["data"] = {kind: float(each.episodes.returns.mean()) for kind, each in sets.items()}
        for kind, agent, seed in wanted:
            score = trained(env, agent, sets[kind], int(seed), folder)
            entry["runs"].setdefault(kind, {}).setdefault(agent, {})[seed] = score
            save()


def discrete(env: str) -> bool:
    """Whether its actions are choices."""
    with closing(rltrain.make_vec(env, 1)) as vec:
        return hasattr(vec.single_action_space, "n")


def datasets(env: str, folder: Path) -> dict[str, Dataset]:
    """The four datasets."""
    tuned = tuned_defaults("ppo", env_spec(env))[0]
    steps = int(tuned["total_timesteps"])
    options = {**tuned, "env_kwargs": tuned.get("env", {}).get("kwargs", {})}
    options.pop("env", None)
    every = steps // CHECKPOINTS
    options |= {"seed": SOURCE_SEED, "save_freq": every, "eval_freq": every, "keep_checkpoints": CHECKPOINTS + 1}
    options |= {"n_eval_episodes": 50, "progress": False, "run_dir": str(folder)}
    run = cases.whole(rltrain.train("ppo", env, **options)).run_dir
    saved = list_checkpoints(run / "checkpoints")
    last = rltrain.load(run)
    worst = rltrain.evaluate("random", env, 50, **options["env_kwargs"]).mean_reward
    best = last.evaluate(50, deterministic=False).mean_reward
    policies = [rltrain.load(run, checkpoint=step_of(path)) for path in saved]
    scores = [policy.evaluate(50, deterministic=False).mean_reward for policy in policies]
    medium = next(i for i, score in enumerate(scores) if score > worst + (best - worst) / 3)
    names = [f"{run}/checkpoints/{path.name}" for path in saved[: medium + 1]]
    number = EPISODES[env]

    def by(policy: Policy, name: str, **more: Any) -> Dataset:
        return record(policy, folder / name, episodes=number, stochastic=True, seed=1, **more)

    return {
        "random": by(last, "random", policies=["random"]),
        "medium": by(policies[medium], "medium"),
        "replay": by(last, "replay", policies=["random", *names]),
        "expert": by(last, "expert"),
    }


def trained(env: str, agent: str, data: Dataset, seed: int, folder: str) -> float:
    """The mean return of the policy that an agent learns."""
    algo, options = AGENTS[agent]
    result = rltrain.train(
        algo,
        env,
        data=str(data.path),
        total_timesteps=STEPS.get(agent, OTHERS),
        seed=seed,
        agent=options,
        num_threads=1,
        save_freq=0,
        trackers=[],
        progress=False,
        run_dir=folder,
    )
    evaluation = cases.whole(result).evaluation
    if evaluation is None:  # a signal stopped that
        raise SystemExit(130)
    return evaluation.mean_reward


def cell(scores: dict[str, float], seeds: int) -> str:
    """Interquartile mean and range."""
    values = [scores[seed] for seed in map(str, range(seeds)) if seed in scores]
    return f"{float(iqm(values)):.4g} ({min(values):.4g} to {max(values):.4g})" if values else ""


if __name__ == "__main__":
    main()
