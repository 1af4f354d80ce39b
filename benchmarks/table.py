"""Prints what agents learn as one table, from the files of ``benchmarks.seeds --save``.

    python -m benchmarks.table [AGENT]

A score is the mean return of 100 new episodes of the final policy: the median over the seeds, and the range. The goal
is the environment's reward threshold, or the score of its baseline policy if it has no threshold. The last column is
the number of seeds that reached it.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks import store
from benchmarks.seeds import spreads
from rltrain.registry import env_spec, env_specs


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agent", nargs="?", default="ppo", metavar="AGENT", help="[ppo]")
    print(table(parser.parse_args().agent))


def table(agent: str) -> str:
    """The table of one agent."""
    lines = [
        "| environment | seeds | steps | seconds | score | goal | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = [json.loads(path.read_text()) for path in sorted((store.RESULTS / agent).glob("*.json"))]
    for result in sorted(found, key=lambda result: (env_spec(result["env"]).group, result["env"])):
        runs = result["runs"]
        steps, seconds, scores = spreads(runs)
        what, goal = goal_of(result["env"])
        reached = ""
        if goal is not None:
            reached = f"{sum(run['evaluation']['mean_reward'] >= goal for run in runs)} of {len(runs)}"
        shown = "" if goal is None else f"{goal:g} ({what})"
        lines.append(f"| {result['env']} | {len(runs)} | {steps} | {seconds} | {scores} | {shown} | {reached} |")
    return "\n".join(lines)


def goal_of(env_id: str) -> tuple[str, float | None]:
    """The goal, and where it comes from."""
    threshold = env_specs()[env_id].reward_threshold
    if threshold is not None:
        return "threshold", threshold
    scores: dict[str, Any] = store.load("scores").get(env_id, {})
    return ("baseline", scores["baseline"]["mean"]) if "baseline" in scores else ("", None)


if __name__ == "__main__":
    main()
