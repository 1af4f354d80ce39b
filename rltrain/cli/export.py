"""``rltrain export``: a trained policy for another library."""

from __future__ import annotations

from rltrain.cli.options import Parser
from rltrain.errors import ConfigError

TO = ("sb3",)


def main(arguments: list[str]) -> int:
    """Writes the policy of a run, and says how to load it."""
    parser = Parser("export", "Write the policy of a run for another library, which loads it without rltrain.")
    parser.add_argument("run", metavar="RUN", help="run folder, or checkpoint in it")
    parser.add_argument("--to", metavar="sb3", help="for Stable-Baselines3: a zip that its load() opens")
    parser.add_argument("--out", metavar="FILE.zip", help="[<run>/sb3_<step>.zip]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", help="[latest]")
    parsed = parser.parse(arguments)
    if parsed.to not in TO:
        raise ConfigError(f"There is no '--to {parsed.to or ''}'.", f"Give --to {' or '.join(TO)}.")

    from rltrain.sb3 import need

    need()

    from rltrain.sb3.exporter import export

    algorithm, written = export(
        parsed.run, parsed.out, checkpoint="latest" if parsed.checkpoint is None else parsed.checkpoint
    )
    print(f"{written[0]}: {algorithm}.load(...) opens it")
    for path in written[1:]:
        print(f"{path}: VecNormalize.load(..., venv) scales the observations; set its 'training' to False to evaluate")
    return 0
