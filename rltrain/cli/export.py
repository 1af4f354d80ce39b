"""``rltrain export``: exports a trained policy to another format."""

from __future__ import annotations

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, did_you_mean, plain
from rltrain.plugins import exporters, resolve


def main(arguments: list[str]) -> int:
    """Writes the policy of a run, and says how to use what was written."""
    formats = "; ".join(f"{name}: {spec.description}" for name, spec in exporters.items())
    parser = Parser("export", "Write the policy of a run for another library, which loads it without rltrain.")
    parser.add_argument("run", metavar="RUN", help="run folder, or checkpoint in it")
    parser.add_argument("--to", metavar="|".join(exporters), help=formats.replace("%", "%%"))
    parser.add_argument("--out", metavar="FILE", help="[as the format says]")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", default="latest", help="[latest]")
    what = "write another file with weights of 8 bits, and measure the score that they cost"
    parser.add_argument("--int8", action="store_true", default=None, help=f"{what} ({takers('int8')})")
    what = "episodes that the score is measured in"
    parser.add_argument("--episodes", type=whole(1), metavar="INT", help=f"with --int8: {what} [100]")
    parsed = parser.parse(arguments)
    choose = f"Give --to {' or '.join(exporters)}."
    if not parsed.to:
        raise ConfigError("It is not said for which library the policy is to be written.", choose)
    if parsed.to not in exporters:
        raise ConfigError(f"There is no '--to {parsed.to}'.", did_you_mean(parsed.to, exporters, choose))
    spec, options = exporters[parsed.to], {}
    for name in ("int8", "episodes"):
        if (value := getattr(parsed, name)) is None:
            continue
        if name not in spec.options:
            raise ConfigError(f"'--to {parsed.to}' has no --{name}.", f"It is for --to {takers(name)}: leave it out.")
        options[name] = value
    if "episodes" in options and "int8" not in options:
        raise ConfigError("'--episodes' measures the score that --int8 costs.", "Give --int8 too, or leave it out.")
    for path, how in resolve(spec.entry_point)(parsed.run, parsed.out, checkpoint=parsed.checkpoint, **options).items():
        say(f"{plain(str(path))}: {how}")
    return 0


def takers(option: str) -> str:
    """The formats that take an option."""
    return " or ".join(name for name, spec in exporters.items() if option in spec.options)
