"""Measures what a sweep gains over Stable-Baselines3's defaults, on seeds that the sweep has not seen.

    python -m benchmarks.sweeps --out sweeps
    python -m benchmarks.sweeps --only Pendulum

For each task: a sweep from the agent's defaults over the space that ships with it, several seeds a trial; then the
defaults in one environment, as Stable-Baselines3 has them, and the best settings, each with ten other seeds and equally
many steps. The score of a run is the mean return of 100 new episodes. Prints a Markdown table and keeps the figures in
``benchmarks/results/sweeps.json``. Killed or interrupted, the same command goes on with what it has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rltrain
from benchmarks import store
from rltrain.evaluation.statistics import interval, iqm_of_tasks, probability_of_improvement
from rltrain.registry import agent_spec
from rltrain.search.request import SweepRequest
from rltrain.search.space import shipped_space
from rltrain.search.sweep import SweepResult, sweep
from rltrain.settings import load_config

FIRST_SEED, SEEDS = 100, 10
FIXED: dict[str, Any] = {"device": "cpu", "num_threads": 1}


@dataclass(frozen=True)
class Task:
    """A sweep and what it is compared on.

    Attributes:
        algo: The agent.
        env: Id of the environment.
        steps: Environment steps of every run.
        trials: Trials of the sweep.
    """

    algo: str
    env: str
    steps: int
    trials: int

    @property
    def name(self) -> str:
        """The name of the study and of its folder."""
        return f"{self.algo}-{self.env.replace('/', '-')}"


TASKS = (
    Task("ppo", "rltrain/Pendulum-v1", 50_000, 40),
    Task("dqn", "rltrain/CartPole-v1", 12_000, 20),
    Task("ppo", "rltrain/Acrobot-v1", 30_000, 16),
)
SEEDS_OF_A_TRIAL = 3


def main() -> None:
    """Sweeps what is missing, compares, prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sweeps"), help="folder of the sweeps [sweeps]")
    parser.add_argument("--only", default="", help="tasks with this text in agent or environment")
    parser.add_argument("--jobs", type=int, default=1, help="trials trained at once [1]")
    parsed = parser.parse_args()
    kept = store.load("sweeps")
    for task in TASKS:
        if parsed.only.lower() in task.name.lower():
            measure(task, parsed.out, parsed.jobs, kept)
    print(table(kept))


def measure(task: Task, out: Path, jobs: int, kept: dict[str, Any]) -> None:
    """Sweeps, and trains with the defaults and with the best settings; keeps what it has after each."""
    settings = {**FIXED, "total_timesteps": task.steps, "n_eval_episodes": 20}
    request = SweepRequest(
        task.algo, task.env, shipped_space(task.algo), settings, True, task.trials, jobs, SEEDS_OF_A_TRIAL,
        out / task.name, name=task.name,
    )  # fmt: skip
    result: SweepResult = sweep(request, lambda line: print(line, file=sys.stderr, flush=True))
    if result.signal is not None or result.config is None or result.best is None:
        sys.exit(f"{task.name}: the sweep is not complete; give the same command again")
    best = load_config(result.config)
    figures = {
        "steps": task.steps,
        "trials": {state: count for state, count in result.counts.items() if count},
        "best trial": {"value": result.best["value"], "params": result.best["params"]},
        "machine": store.machine(),
    }
    before = kept.get(task.name, {})
    same = all(before.get(name) == figures[name] for name in ("steps", "best trial"))
    settings_of = {
        "defaults": {"num_envs": 1, "agent": {}},
        "best": {name: best[name] for name in ("num_envs", "agent")},
    }
    for name, chosen in settings_of.items():
        found: list[float] = before.get(name, []) if same else []
        figures[name], kept[task.name] = found, figures
        while len(found) < SEEDS:
            found += scores(task, chosen, FIRST_SEED + len(found))
            store.save("sweeps", kept)


def scores(task: Task, settings: dict[str, Any], first: int) -> list[float]:
    """The scores of the seeds from ``first`` on: of all as one batch where the agent can, else of this one."""
    base = SweepRequest(task.algo, task.env, shipped_space(task.algo), settings, True).config()
    options: dict[str, Any] = {
        **FIXED,
        "progress": False,
        "trackers": [],
        "save_freq": 0,
        "total_timesteps": task.steps,
        "num_envs": base.num_envs,
        "agent": base.agent.model_dump(mode="json"),
        "seed": first,
    }
    with tempfile.TemporaryDirectory() as folder:
        options["run_dir"] = folder
        if agent_spec(task.algo).stacked:
            count = FIRST_SEED + SEEDS - first
            runs = list(rltrain.train_seeds(task.algo, task.env, count, **options).values())
        else:
            count, runs = 1, [rltrain.train(task.algo, task.env, **options)]
    done = [run for run in runs if isinstance(run, rltrain.RunResult) and run.stopped_by != "interrupted"]
    found = [run.evaluation.mean_reward for run in done if run.evaluation is not None]
    if len(found) < count:
        sys.exit(f"{task.name}: a run failed or was interrupted; give the same command again")
    return found


def table(kept: dict[str, Any]) -> str:
    """The figures of all tasks."""
    rows = [
        f"| {task.algo} | `{task.env}` | {task.steps:,} | {summary(before)} | {summary(after)} | "
        f"{probability_of_improvement([before], [after]):.0%} |"
        for task in TASKS
        if (before := kept.get(task.name, {}).get("defaults")) and (after := kept[task.name].get("best"))
    ]
    head = (
        "| agent | environment | steps | defaults | best trial | improvement |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    return "\n".join((*head, *rows))


def summary(values: list[float]) -> str:
    """The interquartile mean with its 95% bootstrap interval, and the range."""
    low, high = interval(iqm_of_tasks, [values])
    return f"{iqm_of_tasks([values]):.0f} ({low:.0f} to {high:.0f}); all {min(values):.0f} to {max(values):.0f}"


if __name__ == "__main__":
    main()
