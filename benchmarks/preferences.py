"""Trains on rewards learned from an oracle's comparisons, beside the same training on the true reward.

    python -m benchmarks.preferences
    python -m benchmarks.preferences --only Pendulum --seeds 1

Each case trains with 5 seeds and the settings that ship for the environment: on the true reward, and in rounds on
learned rewards. In CartPole the latter have twice the environment steps, which rounds cost, elsewhere as many. The
oracle answers at most 700 questions, about clips of 25 steps. Scores are the mean return of 200 fresh episodes in the
environment itself. The table has the means over the seeds, their range, and the mean of the one as a share of the way
from a random policy to the other. Figures are kept in ``benchmarks/results`` after every run, and runs that are kept
are not repeated. The picture shows the true and the learned return of the policies of every round, both on the scale of
the last round's model.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from filelock import FileLock

import rltrain
from benchmarks import cases, store
from rltrain.evaluation.episodes import run_episodes
from rltrain.make import make_vec
from rltrain.preferences.folder import Preferences
from rltrain.preferences.loop import Plan, train_in_rounds
from rltrain.preferences.oracle import label_by_oracle
from rltrain.rewards.files import load_reward, read_facts
from rltrain.rewards.wrapper import LearnedReward
from rltrain.settings import build_config

EPISODES = 200
PICTURE = store.RESULTS / "preferences.png"


@dataclass(frozen=True)
class Case:
    """A task.

    Attributes:
        algo: The agent.
        env: The environment.
        steps: Environment steps of training.
        plan: Rounds and questions.
        error_rate: Share of the answers that the oracle gives the wrong way round.
        options: Further options of training.
        more: How many times as many steps the learned rewards get.
    """

    algo: str
    env: str
    steps: int
    plan: Plan
    error_rate: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    more: int = 1


CASES = {
    "CartPole, PPO": Case("ppo", "rltrain/CartPole-v1", 150_000, Plan(rounds=5, pairs=700), more=2),
    "Pendulum, PPO": Case("ppo", "rltrain/Pendulum-v1", 200_000, Plan(rounds=5, pairs=700)),
    "Pendulum, SAC": Case("sac", "rltrain/Pendulum-v1", 20_000, Plan(rounds=4, pairs=700)),
    "Cartpole with one wrong answer in ten, PPO": Case(
        "ppo", "rltrain/CartPole-v1", 150_000, Plan(rounds=5, pairs=700), error_rate=0.1, more=2
    ),
}


def main() -> None:
    """Runs what is missing, prints a Markdown table and draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="[0 1 2 3 4]")
    parser.add_argument("--only", help="cases whose name contains this text")
    what = (
        "where the runs are kept, so that the same command goes on with them; several may work there [a temporary one]"
    )
    parser.add_argument("--folder", type=Path, help=what)
    parsed = parser.parse_args()
    cases = {name: case for name, case in CASES.items() if not parsed.only or parsed.only in name}
    with tempfile.TemporaryDirectory() as temporary:
        folder = parsed.folder or Path(temporary)
        for seed, (name, case) in itertools.product(parsed.seeds, cases.items()):
            if str(seed) not in store.load("preferences").get(name, {}).get("seeds", {}):
                keep(
                    name,
                    case,
                    seed,
                    measure(case, seed, folder / name.replace(", ", "-").replace(" ", "_") / str(seed)),
                )
    kept = store.load("preferences")
    print("| task | comparisons | random | true reward: mean (range) | learned: mean (range) | share of the way |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in cases:
        print(row(name, kept[name]), flush=True)
    draw(kept)


def keep(name: str, case: Case, seed: int, found: dict[str, Any]) -> None:
    """Adds the figures of a seed to those that are kept, to which others may be adding too."""
    with FileLock(Path(tempfile.gettempdir()) / "rltrain-benchmarks-preferences.lock"):
        kept = store.load("preferences")
        fresh = {"steps": case.steps, "torch": torch.__version__.partition("+")[0], "seeds": {}}
        entry = kept.setdefault(name, fresh)
        if "random" not in entry:
            entry["random"] = rltrain.evaluate("random", case.env, EPISODES).mean_reward
        entry["seeds"][str(seed)] = found
        store.save("preferences", kept)
    print(f"{name}, seed {seed}: true {found['true']:.1f}, learned {found['learned']:.1f}", file=sys.stderr, flush=True)


def measure(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """Trains both ways with one seed; what is in the folder already is not done again."""
    options = {**case.options, "total_timesteps": case.steps, "seed": seed, "n_eval_episodes": EPISODES}
    options |= {"trackers": ["csv"], "save_freq": 0, "device": "cpu"}
    score = folder / "true.json"
    if not score.exists():
        run = rltrain.train(case.algo, case.env, progress=False, run_dir=str(folder / "true"), **options)
        true = cases.whole(run).evaluation
        assert true is not None
        score.write_text(json.dumps(true.mean_reward))
    config, _ = build_config(case.algo, case.env, {**options, "total_timesteps": case.more * case.steps})

    def answer(prefs: Preferences, pairs: Sequence[str]) -> None:
        label_by_oracle(prefs, pairs=pairs, error_rate=case.error_rate, seed=seed)

    done = train_in_rounds(folder / "preferences", config, case.plan, answer, progress=False)
    if done.interrupted:
        raise SystemExit(130)
    prefs = Preferences.open(folder / "preferences")
    rounds = [returns(run, prefs, seed) for run in done.runs]
    models = [read_facts(model) for model in prefs.models()]
    return {
        "true": json.loads(score.read_text()),
        "learned": rounds[-1]["true"],
        "comparisons": len(prefs.answers.current()),
        "rounds": rounds,
        "accuracy": [model["held_out"]["accuracy"] for model in models],
        "calibration_error": [model["held_out"]["calibration_error"] for model in models],
    }


def returns(run: Path, prefs: Preferences, seed: int) -> dict[str, float]:
    """The true return of a run's policy, and that of the last reward model, over fresh episodes."""
    policy = rltrain.load(run)
    true = policy.evaluate(EPISODES, seed=seed).mean_reward
    newest = prefs.newest_model()
    assert newest is not None
    model, _ = load_reward(newest)
    env = LearnedReward(make_vec(policy.env, EPISODES, **policy.config.env.make_options()), model)
    summed = _Summed(env)
    run_episodes(policy.agent.actor, summed, EPISODES, seed=seed)
    return {"true": true, "learned": summed.mean}


class _Summed:
    """Environments that sum up the reward of the first episode of each row."""

    def __init__(self, env: LearnedReward) -> None:
        self.env = env
        self.total = torch.zeros(env.num_envs)
        self.running = torch.ones(env.num_envs, dtype=torch.bool)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, action: torch.Tensor) -> Any:
        """A step."""
        step = self.env.step(action)
        self.total += torch.where(self.running, step.reward, 0.0)
        self.running &= ~(step.terminated | step.truncated)
        return step

    @property
    def mean(self) -> float:
        """The mean over the rows."""
        return float(self.total.mean())


def row(name: str, entry: dict[str, Any]) -> str:
    """A row of the table."""
    seeds = entry["seeds"].values()
    true, learned = ([seed[which] for seed in seeds] for which in ("true", "learned"))
    share = (mean(learned) - entry["random"]) / (mean(true) - entry["random"])
    asked = max(seed["comparisons"] for seed in seeds)
    cells = [name, f"{asked:,}", f"{entry['random']:,.1f}", spread(true), spread(learned), f"{share:.1%}"]
    return f"| {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """Mean and range."""
    return f"{mean(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def draw(kept: dict[str, Any]) -> None:
    """Draws true against learned return by round, a panel for each case."""
    from rltrain.reports.figure import add_legend, make_panels, write_figure
    from rltrain.reports.style import COLOURS

    cases = {name: entry for name, entry in kept.items() if entry["seeds"]}
    figure, panels = make_panels(list(cases), height=3.6)
    legend: dict[str, Any] = {}
    for axes, entry in zip(panels, cases.values(), strict=True):
        other = axes.twinx()
        other.spines[["top", "left"]].set_visible(False)
        rounds = np.arange(1, 1 + len(next(iter(entry["seeds"].values()))["rounds"]))
        for seed in entry["seeds"].values():
            both = {which: [each[which] for each in seed["rounds"]] for which in ("true", "learned")}
            line = axes.plot(rounds, both["true"], color=COLOURS[0], lw=1.4, marker="o", ms=4)
            dashed = other.plot(rounds, both["learned"], color=COLOURS[1], lw=1.2, ls=(0, (6, 2)), marker="s", ms=3)
            legend |= {"true return": line[0], "return by the last reward model": dashed[0]}
        level = mean(seed["true"] for seed in entry["seeds"].values())
        solid = axes.axhline(level, color="#444444", lw=1.2, ls=(0, (2, 2)))
        legend["trained on the true reward (mean)"] = solid
        axes.set_xticks(rounds)
        axes.set_xlabel("round")
        axes.set_ylabel("true return", color=COLOURS[0])
        other.set_ylabel("learned return", color=COLOURS[1])
    add_legend(figure, legend, "A line for each seed. Learned returns are on the scale of each seed's last model.")
    write_figure(figure, PICTURE)


if __name__ == "__main__":
    main()
