"""What measurements of several cases with several seeds each share."""

from __future__ import annotations

import argparse
from pathlib import Path

from rltrain.trackers.csv import read_progress


def options(about: str | None, what: str = "cases whose name contains this text") -> argparse.Namespace:
    """The options ``--seeds`` and ``--only`` of the command line.

    Args:
        about: What the command does.
        what: What ``--only`` chooses.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    parser.add_argument("--only", help=what)
    return parser.parse_args()


def evaluations(run: Path) -> list[float]:
    """The mean returns of the evaluations of a run."""
    said = read_progress(run / "progress.csv").get("eval/mean_reward", [])
    return [score for score in said if score == score]  # NaN between evaluations
