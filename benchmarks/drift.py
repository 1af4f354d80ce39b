"""Measures what the loop of ``rltrain retrain`` wins back when an environment changes under a policy in use.

    python -m benchmarks.drift
    python -m benchmarks.drift --only longer --seeds 5

In each case PPO is trained on CartPole, its version promoted, and then the environment changes. The loop runs once: the
champion plays 200 episodes in the changed environment, drift is looked for, a policy is trained on from the champion,
and the gate compares both in 200 episodes. Scores are mean returns over 500 other episodes: of the champion before the
change, of the same after it, and of whoever is the champion after the loop. The case without a change says how often
there is a false alarm. Figures are kept in ``benchmarks/results`` after every seed, and those that are kept are not
measured again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import yaml

import rltrain
from benchmarks import store
from rltrain.model_registry.gate import Gate
from rltrain.model_registry.promotion import promote
from rltrain.model_registry.store import Registry
from rltrain.retraining.loop import retrain

ENV = "rltrain/CartPole-v1"
CASES: dict[str, dict[str, Any]] = {
    "nothing changes": {},
    "the pole is four times longer": {"length": 2.0},
    "pushes are three times stronger": {"force_mag": 30.0},
    "a step takes twice as long": {"tau": 0.04},
}
TRAIN: dict[str, Any] = {"total_timesteps": 150_000, "agent": {"learning_rate": "lin_1e-3"}}
EPISODES, JUDGE = 500, 77_000


def main() -> None:
    """Measures what is missing and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parsed = parser.parse_args()
    kept = store.load("drift")
    for seed in map(str, range(parsed.seeds)):
        for name, change in CASES.items():
            case = kept.setdefault(name, {"env": change, "seeds": {}})
            if parsed.only in name and seed not in case["seeds"]:
                case["seeds"][seed] = measure(change, int(seed))
                store.save("drift", {**kept, "machine": store.machine()})
    print("| what changes | alarms | outcome | before | after the change | after the loop |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in CASES:
        if parsed.only in name and kept.get(name, {}).get("seeds"):
            print(row(name, list(kept[name]["seeds"].values())))


def measure(change: dict[str, Any], seed: int) -> dict[str, Any]:
    """The scores of one seed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        registry = Registry(folder / "models", "cartpole")
        options: dict[str, Any] = {"run_dir": str(folder / "runs"), "n_eval_episodes": 0, "seed": 100 * seed}
        registry.register(rltrain.train("ppo", ENV, progress=False, **options).run_dir)
        promote(registry, Gate())
        before, changed = score(registry), score(registry, **change)
        file = folder / "cartpole.yaml"
        file.write_text(yaml.safe_dump({"model": "cartpole", "env": change, "train": TRAIN}))
        outcome = retrain(file)
        drift = outcome.cycle.state["steps"]["drift"]
        return {
            "before": before,
            "changed": changed,
            "after": score(registry, **change),
            "outcome": outcome.name,
            "alarms": len(drift["alarms"]),
            "signals": drift["signals"],
        }


def score(registry: Registry, **env: Any) -> float:
    """The mean return of the champion."""
    policy = rltrain.load(registry.open(registry.find("champion")))
    return policy.evaluate(EPISODES, seed=JUDGE, **env).mean_reward


def row(name: str, seeds: list[dict[str, Any]]) -> str:
    """A line of the table: medians over the seeds, and the range."""
    alarms = sum(bool(each["alarms"]) for each in seeds)
    outcomes = [each["outcome"] for each in seeds]
    counted = ", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes))
    cells = [spread([each[key] for each in seeds]) for key in ("before", "changed", "after")]
    return f"| {name} | {alarms} of {len(seeds)} | {counted} | {' | '.join(cells)} |"


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
