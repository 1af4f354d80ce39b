"""What measurements of several cases with several seeds each share."""

from __future__ import annotations

import argparse
from pathlib import Path

from rltrain.trackers.csv import read_progress
from rltrain.training.session import RunResult


def options(about: str | None) -> argparse.Namespace:
    """The options ``--seeds`` and ``--only`` of the command line; see :func:`parser`."""
    return parser(about).parse_args()


def parser(about: str | None, what: str = "cases whose name contains this text") -> argparse.ArgumentParser:
    """A command line with the options ``--seeds`` and ``--only``.

    Args:
        about: What the command does.
        what: What ``--only`` chooses.
    """
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--seeds", type=int, default=5, help="number of seeds [5]")
    made.add_argument("--only", help=what)
    return made


def whole(result: RunResult) -> RunResult:
    """A run that has come to its end. One that a signal stopped would give figures of half a run.

    Raises:
        SystemExit: A signal stopped it; what was measured before is kept.
    """
    if result.stopped_by == "interrupted":
        raise SystemExit(128 + (result.signal or 2))
    return result


def evaluations(run: Path) -> list[float]:
    """The mean returns of the evaluations of a run."""
    said = read_progress(run / "progress.csv").get("eval/mean_reward", [])
    return [score for score in said if score == score]  # NaN between evaluations
