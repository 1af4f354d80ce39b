"""What the diagnoses of a run's health say of the shipped configurations: nothing, if their thresholds are right.

    python -m benchmarks.health                      # every configuration, 30 s of processor time each
    python -m benchmarks.health --seconds 120 ppo    # those of an agent, longer
    python -m benchmarks.health --only Cart          # environments whose id has this in it

Prints a Markdown table with a row for each configuration. Runs are cut short, and judged as far as they came.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from rltrain import Callback, train
from rltrain.callbacks import Training
from rltrain.registry import agent_specs, env_specs
from rltrain.runs.folder import RunFolder
from rltrain.trackers.csv import read_progress

AGENTS = ("ppo", "pqn", "dqn", "sac")


class Until(Callback):
    """Ends the run after some seconds of processor time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.process_time() + seconds

    def on_update(self, trainer: Training, metrics: Any) -> None:
        """Looks at the clock."""
        if time.process_time() > self.end:
            trainer.stop()


def shipped(agent: str) -> list[str]:
    """The built-in environments that an agent has settings of its own for."""
    folder = Path(__file__).parents[1] / "configs" / agent
    files = {path.stem for path in folder.glob("rltrain-*.yaml")}
    return [id for id in env_specs() if id.replace("/", "-") in files]


def judge(agent: str, env: str, seconds: float, run_dir: str) -> tuple[int, int, float, list[str]]:
    """Steps of a short run, those of the whole, its return, and what was said of its health."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(
            agent,
            env,
            callbacks=[Until(seconds)],
            run_dir=run_dir,
            trackers=["csv"],
            n_eval_episodes=0,
            save_freq=0,
            num_threads=1,
            progress=False,
        )
    said = [str(each.message) for each in caught if str(each.message).startswith("Health at step")]
    total = RunFolder(result.run_dir).config().total_timesteps
    returns = [x for x in read_progress(result.run_dir / "progress.csv").get("rollout/ep_rew_mean", []) if x == x]
    return result.steps, total, returns[-1] if returns else float("nan"), said


def main() -> None:
    """Prints a row for each configuration, as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.health", description=__doc__.partition("\n")[0])
    parser.add_argument("agents", nargs="*", default=AGENTS, metavar="AGENT", help=", ".join(AGENTS))
    parser.add_argument("--seconds", type=float, default=30.0, help="processor seconds a run [30]")
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="TEXT", help="environments with one of these in their id"
    )
    parsed = parser.parse_args()
    if unknown := [agent for agent in parsed.agents if agent not in agent_specs()]:
        sys.exit(f"There is no agent '{unknown[0]}'.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| agent | environment | steps | of its whole run | mean return | diagnoses |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for agent in parsed.agents:
            for env in (each for each in shipped(agent) if any(text in each for text in parsed.only)):
                steps, total, last, said = judge(agent, env, parsed.seconds, folder)
                mean = f"{last:.4g}" if last == last else "none yet"
                told = "; ".join(text.removeprefix("Health at ").partition(" Try ")[0] for text in said) or "none"
                print(f"| {agent} | {env} | {steps:,} | {min(steps / total, 1):.0%} | {mean} | {told} |", flush=True)


if __name__ == "__main__":
    main()
