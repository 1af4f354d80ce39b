"""``rltrain plot``: draws learning curves."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rltrain.cli.options import Parser
from rltrain.cli.output import say


def main(arguments: list[str]) -> int:
    """Draws the learning curves of runs into one picture."""
    parser = Parser("plot", "Draw the learning curves of runs; three or more of a kind as median and range.")
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    parser.add_argument("--out", metavar="FILE.png", help="[<run>/learning_curve.png, or learning_curves.png here]")
    parsed = parser.parse(arguments)

    from rltrain.errors import ConfigError
    from rltrain.evaluation.plotting import plot_runs
    from rltrain.registry import find_env
    from rltrain.runs.folder import RunFolder

    folders = [RunFolder.open(run)[0] for run in parsed.runs]
    ids = {folder.config().env.id for folder in folders}
    spec = None
    with suppress(ConfigError):  # the packages of the environment may not be installed here
        spec = find_env(ids.pop()) if len(ids) == 1 else None
    out = None if parsed.out is None else Path(parsed.out)
    say(plot_runs([folder.path for folder in folders], out, threshold=spec.reward_threshold if spec else None))
    return 0
