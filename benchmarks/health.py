"""What the diagnoses of a run's health say of the shipped configurations: nothing, if their thresholds are right.

    python -m benchmarks.health                       # every configuration, at most 60 s of processor time each
    python -m benchmarks.health ppo --seconds 600     # those of an agent, longer
    python -m benchmarks.health --only Cart Lake      # environments whose id has one of these in it

Runs use the shipped settings and are evaluated ten times on the way. A run that takes longer than allowed is cut there,
and judged as far as it came. Figures are kept in ``benchmarks/results/health``; a run that was whole, or as long as
asked for, is not repeated. Prints a Markdown table with a row for each configuration; ``--table`` prints it of what is
kept. ``throughput_fall`` is off: it would tell of other work on this machine.
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

from benchmarks import store
from rltrain import Callback, train
from rltrain.callbacks import Training
from rltrain.registry import agent_specs, env_spec, env_specs
from rltrain.runs.folder import RunFolder
from rltrain.settings import tuned_defaults
from rltrain.trackers.csv import read_progress

AGENTS = ("ppo", "pqn", "dqn", "sac")
EVALUATIONS, EPISODES = 10, 10


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


def judge(agent: str, env: str, seconds: float, run_dir: str) -> dict[str, Any]:
    """What was said of the health of a run, and how far it came."""
    total = tuned_defaults(agent, env_spec(env))[0]["total_timesteps"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train(
            agent,
            env,
            callbacks=[Until(seconds)],
            run_dir=run_dir,
            trackers=["csv"],
            n_eval_episodes=EPISODES,
            eval_freq=max(1, total // EVALUATIONS),
            save_freq=0,
            num_threads=1,
            health={"throughput_share": 0.0},
            progress=False,
        )
    if result.stopped_by == "interrupted":
        sys.exit("interrupted; give the same command again")
    said = [str(each.message) for each in caught if str(each.message).startswith("Health at step")]
    progress = read_progress(result.run_dir / "progress.csv")
    returns = [x for x in progress.get("rollout/ep_rew_mean", []) if x == x]
    return {
        "steps": result.steps,
        "total": RunFolder(result.run_dir).config().total_timesteps,
        "whole": result.stopped_by != "callback",
        "seconds": seconds,
        "return": returns[-1] if returns else None,
        "said": [text.removeprefix("Health at ").partition(" Try ")[0] for text in said],
        "settings": tuned_defaults(agent, env_spec(env))[0],
    }


def row(agent: str, env: str, run: dict[str, Any]) -> str:
    """A row of the table."""
    share = 1.0 if run["whole"] else run["steps"] / run["total"]
    mean = "none yet" if run["return"] is None else f"{run['return']:.4g}"
    return f"| {agent} | {env} | {run['steps']:,} | {share:.0%} | {mean} | {'; '.join(run['said']) or 'none'} |"


def main() -> None:
    """Prints a row for each configuration, as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", default=AGENTS, metavar="AGENT", help=", ".join(AGENTS))
    parser.add_argument("--seconds", type=float, default=60.0, help="processor seconds a run [60]")
    parser.add_argument("--only", nargs="*", default=[""], metavar="TEXT", help="environments with one of these in it")
    parser.add_argument("--again", action="store_true", help="repeat what is kept")
    parser.add_argument("--table", action="store_true", help="print what is kept, and run nothing")
    parsed = parser.parse_args()
    if unknown := [agent for agent in parsed.agents if agent not in agent_specs()]:
        sys.exit(f"There is no agent '{unknown[0]}'.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| agent | environment | steps | of its whole run | mean return | diagnoses |")
    print("| --- | --- | --- | --- | --- | --- |")
    for agent in parsed.agents:
        kept = store.load(f"health/{agent}")
        for env in (each for each in shipped(agent) if any(text in each for text in parsed.only)):
            run = kept.get(env)
            if not parsed.table and (parsed.again or not is_enough(run, agent, env, parsed.seconds)):
                with tempfile.TemporaryDirectory() as folder:
                    run = kept[env] = judge(agent, env, parsed.seconds, folder)
                store.save(f"health/{agent}", kept)
            if run is not None:
                print(row(agent, env, run), flush=True)


def is_enough(run: dict[str, Any] | None, agent: str, env: str, seconds: float) -> bool:
    """Whether a run that is kept has the shipped settings, and was whole or as long as asked for."""
    if run is None or run["settings"] != tuned_defaults(agent, env_spec(env))[0]:
        return False
    return bool(run["whole"] or run["seconds"] >= seconds)


if __name__ == "__main__":
    main()
