"""``rltrain export``: exports a trained policy to another format."""

from __future__ import annotations

from rltrain.cli.options import Parser
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean
from rltrain.plugins import exporters, resolve


def main(arguments: list[str]) -> int:
    """Writes the policy of a run, and says how to use what was written."""
    formats = "; ".join(f"{name}: {spec.description}" for name, spec in exporters.items())
    parser = Parser("export", "Write the policy of a run for another library, which loads it without rltrain.")
    parser.add_argument("run", metavar="RUN", help="run folder, or checkpoint in it")
    parser.add_argument("--to", metavar="|".join(exporters), help=formats.replace("%", "%%"))
    parser.add_argument("--out", metavar="FILE", help="[as the format says]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", default="latest", help="[latest]")
    parsed = parser.parse(arguments)
    choose = f"Give --to {' or '.join(exporters)}."
    if not parsed.to:
        raise ConfigError("It is not said for which library the policy is to be written.", choose)
    if parsed.to not in exporters:
        raise ConfigError(f"There is no '--to {parsed.to}'.", did_you_mean(parsed.to, exporters, choose))
    for path, how in resolve(exporters[parsed.to].entry_point)(
        parsed.run, parsed.out, checkpoint=parsed.checkpoint
    ).items():
        say(f"{path}: {how}")
    return 0
