"""``rltrain resume``: continue a run."""

from __future__ import annotations

from rltrain.cli.options import Parser
from rltrain.errors import ConfigError


def main(arguments: list[str]) -> int:
    """Continues a run from its newest whole checkpoint."""
    parser = Parser("resume", "Continue a run from its newest whole checkpoint, exactly as if it had never stopped.")
    parser.add_argument("run", metavar="RUN", help="run folder, or a checkpoint in it; later ones are set aside")
    parser.add_argument("--total-timesteps", type=int, metavar="INT", help="steps to stop at, to train for longer")
    parser.add_argument("--no-progress", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parsed = parser.parse(arguments)
    if parsed.total_timesteps is not None and parsed.total_timesteps < 1:
        raise ConfigError(f"total_timesteps={parsed.total_timesteps} is out of range.", "It must be at least 1.")

    from rltrain.cli.report import report
    from rltrain.launch import resume

    result = resume(parsed.run, total_timesteps=parsed.total_timesteps, progress=not parsed.no_progress)
    return report(result, parsed.json)
